"""Make the small models and data that the example recipes use, offline: `python examples/make.py`, about a minute on two cores.

Every model is trained on real, though small, data: scikit-learn's digits, and the documentation of the running Python. Everything is written
to ``examples/made/``, which git ignores.
"""

import argparse
import csv
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tilewright.jobs import python_docs

MADE = Path(__file__).parent / "made"


def train(model: nn.Module, batches: Iterable[dict[str, Tensor]], loss: Callable[[dict[str, Tensor]], Tensor]) -> None:
    """Train a model for one step per batch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    model.train()
    for batch in batches:
        optimizer.zero_grad()
        loss(batch).backward()
        optimizer.step()
    model.eval()


def digits(steps: int) -> None:
    """Write 1797 images of digits, one folder per class, and a ViT trained on them."""
    from PIL import Image
    from sklearn.datasets import load_digits
    from transformers import ViTConfig, ViTForImageClassification

    bunch = load_digits()
    pixels = (bunch.images * (255 / 16)).astype(np.uint8)
    for at, (image, label) in enumerate(zip(pixels, bunch.target, strict=True)):
        place = MADE / "digits" / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR).save(place / f"{at:04}.png")
    files = sorted((MADE / "digits").rglob("*.png"))
    x = torch.stack([torch.from_numpy(np.asarray(Image.open(file), np.float32) / 255)[None] for file in files])
    y = torch.tensor([int(file.parent.name) for file in files])
    config = ViTConfig(
        image_size=16,
        patch_size=4,
        num_channels=1,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_labels=10,
        id2label={n: str(n) for n in range(10)},
        label2id={str(n): n for n in range(10)},
    )
    model = ViTForImageClassification(config)
    train(model, _drawn(steps, 64, pixel_values=x, labels=y), lambda batch: model(**batch).loss)
    model.save_pretrained(MADE / "digits-vit")


def texts(steps: int) -> None:
    """Write paragraphs of documentation, each with a label and a number, and two BERT models trained to predict them."""
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    passages = [text for text in python_docs(10).passages if len(text) < 400]
    random.Random(0).shuffle(passages)
    rows = [(text, "signature" if "(" in text else "prose", round(len(text) / 100, 2)) for text in passages[:4000]]
    with (MADE / "texts.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "kind", "hundreds"), *rows])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_trained(passages, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )
    tokens = tokenizer([text for text, _, _ in rows], padding=True, truncation=True, return_tensors="pt")
    inputs = {name: tokens[name] for name in ("input_ids", "attention_mask")}
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "max_position_embeddings": 64,
    }
    kinds = ["prose", "signature"]
    labelled = {"id2label": dict(enumerate(kinds)), "label2id": {kind: n for n, kind in enumerate(kinds)}}
    for place, more, labels in (
        ("kind-bert", labelled, torch.tensor([kinds.index(kind) for _, kind, _ in rows])),
        ("length-bert", {"num_labels": 1, "problem_type": "regression"}, torch.tensor([n for *_, n in rows])),
    ):
        model = BertForSequenceClassification(BertConfig(**sizes, **more))
        train(model, _drawn(steps, 32, **inputs, labels=labels), lambda batch, model=model: model(**batch).loss)
        model.save_pretrained(MADE / place)
        tokenizer.save_pretrained(MADE / place)


def language(steps: int) -> None:
    """Write a GPT-2 trained on some of the documentation."""
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    passages = list(python_docs(10).passages)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=_trained(passages, ["<|end|>"]), eos_token="<|end|>")
    ids = torch.tensor(tokenizer("\n\n".join(passages)[:1_500_000], verbose=False)["input_ids"])
    windows = ids[: len(ids) // 64 * 64].reshape(-1, 64)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_embd=96, n_layer=3, n_head=4, bos_token_id=0, eos_token_id=0
    )
    model = GPT2LMHeadModel(config)
    train(model, _drawn(steps, 16, input_ids=windows), lambda batch: model(**batch, labels=batch["input_ids"]).loss)
    model.save_pretrained(MADE / "docs-gpt2")
    tokenizer.save_pretrained(MADE / "docs-gpt2")


def _trained(passages: list[str], special: list[str]) -> Any:
    """Return a byte-level tokenizer of 1000 tokens, trained on the passages."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1000, special_tokens=special, initial_alphabet=letters, show_progress=False
    )
    tokenizer.train_from_iterator(passages[:4000], trainer)
    return tokenizer


def _drawn(steps: int, size: int, **columns: Tensor) -> Iterable[dict[str, Tensor]]:
    count = len(next(iter(columns.values())))
    for _ in range(steps):
        rows = torch.randint(count, (size,))
        yield {name: column[rows] for name, column in columns.items()}


def main() -> None:
    """Make everything, or only the parts named on the command line."""
    parts = {"digits": digits, "texts": texts, "language": language}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"parts to make: {', '.join(parts)}; default: all")
    parser.add_argument("--steps", type=int, default=300, help="training steps of each model")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # models this small gain nothing from more
    MADE.mkdir(exist_ok=True)
    for name in arguments.parts or parts:
        torch.manual_seed(0)
        parts[name](arguments.steps)
        print(f"{MADE / name}: made")


if __name__ == "__main__":
    main()
