"""Answers from an exported folder without torch: numpy, Pillow, tokenizers and onnxruntime, and nothing else.

```python
from dualvqa_light import LightPipeline

pipe = LightPipeline("runs/mine_onnx")
pipe(image="photo.png", question="is it blue?", top_k=3)
```
"""

import os

# The modules that read images are those of processing, which are beside this folder, or copied into it when the
# distribution dualvqa-light is built: see its setup.py.
__path__.append(os.path.join(os.path.dirname(os.path.abspath(__path__[0])), "processing"))

from .answerer import Answerer  # noqa: E402
from .explanation import Explanation, explain  # noqa: E402
from .image_sources_dualvqa import ImageSources  # noqa: E402
from .pipeline import LightPipeline  # noqa: E402

__version__ = "0.1.0"  # that of dualvqa

__all__ = ["Answerer", "Explanation", "ImageSources", "LightPipeline", "explain"]
