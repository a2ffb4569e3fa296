"""Answers from an exported folder without torch: numpy, Pillow, tokenizers and onnxruntime, and nothing else.

```python
from dualvqa_light import LightPipeline

pipe = LightPipeline("runs/mine_onnx")
pipe(image="photo.png", question="is it blue?", top_k=3)
```
"""

from .answerer import Answerer
from .image_sources_dualvqa import ImageSources
from .pipeline import LightPipeline

__version__ = "0.1.0"  # that of dualvqa

__all__ = ["Answerer", "ImageSources", "LightPipeline"]
