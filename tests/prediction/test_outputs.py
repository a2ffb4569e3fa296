import json

import pandas
import pytest

from dualvqa.prediction.outputs import output_kind

SAID = {"answer": '"yes"', "score": "0.5", "question_type": '"binary"', "top_k": '[{"answer": "yes", "score": 0.5}]'}


@pytest.mark.parametrize("end", ["csv", "parquet"])
def test_what_is_foreign_has_a_form_in_every_table(tmp_path, end):
    path = tmp_path / f"answers.{end}"
    output = output_kind(str(path))(str(path), {}, {})
    output.write([SAID, {**SAID, "unfamiliar": '{"image": true, "question": null}'}])
    output.finish()
    output.close()
    found = (pandas.read_csv if end == "csv" else pandas.read_parquet)(path)["unfamiliar"].tolist()
    assert found[0] is None or pandas.isna(found[0])
    assert (json.loads(found[1]) if end == "csv" else found[1]) == {"image": True, "question": None}
