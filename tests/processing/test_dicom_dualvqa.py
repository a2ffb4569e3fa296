"""DICOM files look as in a viewer, tell nothing of a patient, and those without a readable picture say why."""

import io
import random
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers import lines_of, write_jsonl

from processing import image_loading_dualvqa
from processing.image_loading_dualvqa import load_image
from processing.image_sources_dualvqa import ImageSources

REAL = Path(pydicom.__file__).parent / "data" / "test_files"  # that pydicom brings
PATIENT = "Mustermann^Erika"
STORED = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)  # 12 bits: 0, 16, ..., 4080


def dicom(stored=STORED, syntax=None, **fields):
    """The bytes of a DICOM file of a patient with these stored values, (H, W) or (frames, H, W)."""
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax or pydicom.uid.ExplicitVRLittleEndian
    data.PatientName, data.PatientID, data.StudyDescription = PATIENT, "PID-4711", "knee of Erika"
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    if stored is not None:
        data.Rows, data.Columns = stored.shape[-2:]
        data.SamplesPerPixel, data.BitsAllocated, data.BitsStored, data.HighBit = 1, 16, 12, 11
        data.PixelRepresentation, data.PhotometricInterpretation = 0, "MONOCHROME2"
        if stored.ndim == 3:
            data.NumberOfFrames = len(stored)
        data.PixelData = stored.astype(np.uint16).tobytes()
    for name, value in fields.items():
        setattr(data, name, value)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data, enforce_file_format=True)
    return buffer.getvalue()


def grey(content):
    found = np.asarray(load_image(content))
    assert (found == found[..., :1]).all()
    return found[..., 0].astype(int)


def rounded(shares):
    return np.round(np.clip(shares, 0, 1) * 255).astype(int)


def item(**fields):
    found = pydicom.Dataset()
    for name, value in fields.items():
        setattr(found, name, value)
    return pydicom.Sequence([found])


@pytest.fixture(autouse=True)
def nothing_said():
    image_loading_dualvqa.SAID.clear()


def test_without_a_window_the_values_are_stretched():
    assert np.array_equal(grey(dicom()), rounded(STORED / 4080))


def test_the_window_is_of_the_rescaled_values():
    """PS3.3, C.11.2.1.2.1: center 100, width 201 show 0.5 to 199.5 of slope 0.1 and intercept -50."""
    values = STORED * 0.1 - 50
    found = grey(dicom(RescaleSlope=0.1, RescaleIntercept=-50, WindowCenter=100, WindowWidth=201))
    assert np.array_equal(found, rounded((values - 99.5) / 200 + 0.5))
    assert found.min() == 0 and found.max() == 255 and 0 < found[4, 0] < 255


def test_of_several_windows_the_first_counts_and_one_without_width_counts_for_nothing():
    first = grey(dicom(WindowCenter=2048, WindowWidth=1024))
    assert np.array_equal(first, grey(dicom(WindowCenter=[2048, 10], WindowWidth=[1024, 5])))
    assert np.array_equal(grey(dicom(WindowCenter=2048, WindowWidth=0.5)), grey(dicom()))


def test_a_voi_table_goes_before_a_window():
    table = item(LUTDescriptor=[4, 0, 8], LUTData=[255, 128, 64, 0])
    table[0]["LUTDescriptor"].VR = table[0]["LUTData"].VR = "US"
    stored = np.array([[0, 1], [2, 9]])
    found = grey(dicom(stored, VOILUTSequence=table, WindowCenter=2048, WindowWidth=10))
    assert found.tolist() == [[255, 128], [64, 0]]


def test_monochrome1_is_turned_round():
    assert np.array_equal(grey(dicom(PhotometricInterpretation="MONOCHROME1")), 255 - rounded(STORED / 4080))


def test_padding_does_not_stretch_the_picture():
    stored = np.array([[0, 1000], [1500, 2000]])
    assert grey(dicom(stored, PixelPaddingValue=0)).tolist() == [[0, 0], [128, 255]]


def test_an_enhanced_file_has_rescale_and_window_of_its_first_frame():
    rescale = item(RescaleSlope=2, RescaleIntercept=-1000, RescaleType="HU")
    window = item(WindowCenter=100, WindowWidth=401)
    shared = item(PixelValueTransformationSequence=rescale)
    frames = dicom(
        np.stack([STORED, STORED[::-1]]),
        SharedFunctionalGroupsSequence=shared,
        PerFrameFunctionalGroupsSequence=item(FrameVOILUTSequence=window),
    )
    assert np.array_equal(grey(frames), rounded((STORED * 2.0 - 1000 - 99.5) / 400 + 0.5))


def test_of_several_frames_the_first_is_taken_and_that_is_said_once(caplog):
    for _ in range(2):
        assert np.array_equal(grey(dicom(np.stack([STORED, STORED * 0, STORED * 0]))), rounded(STORED / 4080))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and "(DICOM) has several frames or pages: of such files the first is taken" in said[0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CT_small.dcm", lambda data, stored: rounded((stored - stored.min()) / np.ptp(stored))),
        ("MR_small_RLE.dcm", lambda data, stored: grey(REAL / "MR_small.dcm")),
        ("MR_small_jp2klossless.dcm", lambda data, stored: grey(REAL / "MR_small.dcm")),
        ("MR_small_bigendian.dcm", lambda data, stored: grey(REAL / "MR_small.dcm")),
        (
            "MR_small.dcm",
            lambda data, stored: rounded((stored - (data.WindowCenter - 0.5)) / (data.WindowWidth - 1) + 0.5),
        ),
    ],
)
def test_real_files_look_as_their_numbers_say(name, expected):
    data = pydicom.dcmread(REAL / name)
    assert np.array_equal(grey(REAL / name), expected(data, data.pixel_array.astype(float)))


@pytest.mark.parametrize("name", ["examples_palette.dcm", "SC_rgb_small_odd.dcm", "SC_ybr_full_422_uncompressed.dcm"])
def test_colours_are_rgb(name):
    found = np.asarray(load_image(REAL / name))
    assert found.shape[2] == 3 and found.dtype == np.uint8 and len(np.unique(found.reshape(-1, 3), axis=0)) > 2
    assert (found.max(axis=2) != found.min(axis=2)).any()


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (lambda: REAL / "rtplan.dcm", "rtplan.dcm: it is a DICOM file without pixel data"),
        (lambda: dicom(None), "without pixel data"),
        (lambda: REAL / "SC_rgb_jpeg_gdcm.dcm", "JPEG Lossless.*no decoder is installed: pip install pylibjpeg"),
        (lambda: REAL / "JPGExtended.dcm", "JPEG Extended.*no installed decoder is enough"),
        (lambda: REAL / "image_dfl.dcm", "deflated DICOM file, and those are not read"),
        (lambda: REAL / "MR_truncated.dcm", "less than expected"),
    ],
)
def test_what_has_no_readable_picture_says_why(source, problem):
    with pytest.raises(ValueError, match=f"expected a readable image .*{problem}"):
        load_image(source())


def test_without_pydicom_the_file_is_called_what_it_is(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(
        ValueError, match="a DICOM file, which needs pydicom 3 or newer: pip install pydicom, the extra"
    ):
        load_image(dicom())


def test_pixels_are_counted_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr("processing.dicom_dualvqa.decode", lambda *args: pytest.fail("decoded"))
    with pytest.raises(ValueError, match="16 x 16 pixels, and the limit max_pixels is 100"):
        load_image(dicom(), ImageSources(max_pixels=100))


def test_spoilt_files_are_refused_or_read():
    content, chance = dicom(np.stack([STORED, STORED]), WindowCenter=5, WindowWidth=9), random.Random(0)
    for _ in range(300):
        spoilt = bytearray(content[: chance.choice([len(content), chance.randrange(len(content))])])
        for _ in range(chance.randrange(4)):
            spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
        try:
            assert load_image(bytes(spoilt)).mode == "RGB"
        except ValueError as error:
            assert PATIENT not in str(error)


@pytest.mark.slow
def test_nothing_of_a_patient_is_in_what_a_run_writes(recipe, image_folder, caplog):
    from dualvqa.run import main as run_vqa

    rows = lines_of(image_folder / "train.jsonl")
    for number in range(8):
        (image_folder / f"{number}.dcm").write_bytes(dicom(np.roll(STORED, number)))
    rows = [{**row, "image": row["image"].replace(".png", ".dcm")} for row in rows]
    write_jsonl(image_folder / "dicom.jsonl", rows)
    file = str(image_folder / "dicom.jsonl")
    run_vqa.main([recipe(train_file=file, test_file=file, do_eval=True, do_predict=True, memory=True)])
    out = image_folder / "out"
    written = [path for path in out.rglob("*") if path.is_file()]
    assert {"predictions.jsonl", "report.html", "README.md"} <= {path.name for path in written}
    for path in written:
        content = path.read_bytes()
        assert not [word for word in (b"Mustermann", b"Erika", b"PID-4711") if word in content], path
    assert "Mustermann" not in caplog.text
    assert lines_of(out / "predictions.jsonl")[0]["image"].endswith(".dcm")
