"""The command run in this process, and a sentence-embedding model small enough to prune in a blink."""

import json
from dataclasses import dataclass

import pytest

from tilewright.cli import main


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def body(self):
        """The one JSON object on stdout."""
        return json.loads(self.out)


@pytest.fixture
def tilewright(capfd):
    """Run the command; descriptors are captured, so what C code prints counts as well."""

    def call(*words):
        capfd.readouterr()
        code = main([str(word) for word in words])
        out, err = capfd.readouterr()
        return Done(code, out, err)

    return call


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Write a SentenceTransformer with two BERT layers of width 96 and random weights."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    letters = [chr(c) for c in range(97, 123)]
    (folder / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + c for c in letters)])
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=57,
        hidden_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=192,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder / "bert")
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    words = Transformer(str(folder / "bert"), max_seq_length=32)
    place = folder / "model"
    SentenceTransformer(modules=[words, Pooling(96)], device="cpu").save(str(place))
    return place
