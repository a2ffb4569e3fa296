"""Which settings of a run go together; checked before anything large is imported."""

import os


def check_request(settings):
    """Refuses a combination of flags that could only fail later.

    Args:
        settings: has every flag as an attribute.

    Raises:
        ValueError: as said.
    """
    for name in ("train_file", "validation_file", "test_file", "image_dir"):
        path = getattr(settings, name)
        if path and not set("*?[") & set(path) and not os.path.exists(path):
            raise ValueError(f"--{name} {path}: no such {'folder' if name == 'image_dir' else 'file'}")
    calibrates = settings.calibrate == "true" or settings.max_risk is not None or settings.fit_familiarity
    calibrates = calibrates or settings.promise_by is not None
    if not (settings.do_train or settings.do_eval or settings.do_predict or calibrates):
        raise ValueError("nothing to do: give one or more of --do_train, --do_eval, --do_predict, --calibrate true")
    if not settings.do_train and not settings.model_name_or_path:
        raise ValueError("evaluation, prediction and calibration without training need --model_name_or_path")
    if calibrates and (settings.ensemble_with or settings.quantization):
        raise ValueError(
            "calibration belongs to one saved model: leave out --ensemble_with and --quantization, or --calibrate, "
            "--max_risk, --promise_by and --fit_familiarity"
        )
    if calibrates and settings.pretrain:
        raise ValueError(
            "--pretrain trains no heads: leave out --calibrate true, --max_risk, --promise_by and --fit_familiarity"
        )
    if settings.new_answers and not (settings.do_train and settings.model_name_or_path):
        raise ValueError("--new_answers needs --model_name_or_path, the model to go on from, and --do_train")
    if settings.ensemble_with and (settings.do_train or not settings.model_name_or_path):
        raise ValueError("--ensemble_with is for trained models: leave out --do_train and give --model_name_or_path")
    if settings.teacher and (not settings.do_train or settings.streaming or settings.pretrain):
        raise ValueError("--teacher needs --do_train, and can't be with --streaming or --pretrain")
    if settings.single_head and settings.model_name_or_path:
        raise ValueError(
            "--single_head is for a new model; a saved one keeps its heads: leave one of the two flags out"
        )
    if settings.quantization and settings.do_train:
        raise ValueError("--quantization is for a trained model: leave out --do_train and give --model_name_or_path")
    if settings.pretrain and not settings.do_train:
        raise ValueError("--pretrain needs --do_train")
    if settings.pretrain and settings.do_predict:
        raise ValueError("--pretrain trains no heads to answer with; add --do_predict false")
    reported = settings.do_eval and settings.report and not settings.pretrain
    if settings.report_blind and not (settings.do_train and reported):
        raise ValueError(
            "--report_blind trains a second model, without images, for the report: it needs --do_train and --do_eval, "
            "and can't be with --pretrain or --report false"
        )
    if settings.memory and (not settings.do_train or settings.streaming or settings.pretrain):
        raise ValueError("--memory needs --do_train, and can't be with --streaming or --pretrain")
    if settings.refit and (not settings.do_train or settings.streaming or settings.pretrain):
        raise ValueError("--refit needs --do_train, and can't be with --streaming or --pretrain")
    if settings.cross_fit and (not settings.do_train or settings.streaming or settings.pretrain):
        raise ValueError("--cross_fit needs --do_train, and can't be with --streaming or --pretrain")
    if settings.cross_fit and (settings.refit or settings.fit_familiarity or settings.validation_file):
        raise ValueError(
            "--cross_fit holds out every training question once and trains the model on all of them: leave out "
            "--refit, --fit_familiarity and --validation_file"
        )
    if settings.report_columns and not reported:
        raise ValueError("--report_columns needs --do_eval, and can't be with --pretrain or --report false")
    if settings.streaming and settings.questions_per_image:
        raise ValueError("--questions_per_image needs all rows at hand; leave it out with --streaming")
    if settings.auxiliary_columns and settings.do_train and (settings.streaming or settings.pretrain):
        raise ValueError("--auxiliary_columns can't be with --streaming or --pretrain")
    if settings.balanced_sampling and (settings.streaming or settings.pretrain):
        raise ValueError(
            "--balanced_sampling needs the answers of all rows at hand: it can't be with --streaming or --pretrain"
        )
    if not any(getattr(settings, name) for name in ("train_file", "validation_file", "test_file", "dataset_name")):
        raise ValueError("no data: give --train_file, --validation_file or --test_file, or --dataset_name")
