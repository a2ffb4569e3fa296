"""What a saved model's record says of the rows that it was trained on."""

from helpers import data_arguments as arguments
from training_helpers import training_arguments

from dualvqa import DualVQATrainer
from processing import prepare_datasets


def test_a_model_tells_the_questions_that_it_was_trained_on(image_folder, processor, tiny_model, caplog):
    rows = prepare_datasets(arguments(image_folder, validation_fraction=0.5))[0]
    args = training_arguments(str(image_folder / "out"))
    trainer = DualVQATrainer(model=tiny_model(), args=args, train_dataset=rows["train"], processing_class=processor)
    trainer.start_record()
    trainer.tell_of("validation", rows["validation"])
    assert "was trained on about" not in caplog.text
    for _ in range(2):  # once for each part
        trainer.tell_of("other", rows["train"])
    (message,) = [text for text in caplog.messages if "was trained on about" in text]
    number = len(rows["train"])
    assert f"other: the model was trained on about 100 % of these {number} questions ({number} of {number}" in message
