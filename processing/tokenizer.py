"""A tokenizer for text towers that start from scratch."""

from tokenizers.implementations import BertWordPieceTokenizer
from transformers import BertTokenizer


def train_tokenizer(questions, vocab_size=8000, model_max_length=64):
    """A lower-case WordPiece tokenizer learned from `questions`, for text towers that start from scratch.

    Returns:
        A transformers `BertTokenizer` of at most `vocab_size` tokens, the same every time for the same questions.
    """
    tokenizer = BertWordPieceTokenizer(lowercase=True)
    questions = sorted(set(questions))
    # The trainer meets the letters inside words in an order that changes from run to run, and with it the choice among
    # equally frequent pairs. Named beforehand, they have an order.
    letters = sorted(set("".join(map(tokenizer.normalizer.normalize_str, questions))) - {" "})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    named = special + [f"##{letter}" for letter in letters]
    tokenizer.train_from_iterator(questions, vocab_size, min_frequency=1, special_tokens=named, show_progress=False)
    return BertTokenizer(vocab=tokenizer.get_vocab(), do_lower_case=True, model_max_length=model_max_length)
