#!/usr/bin/env python3
"""Prints the scores that transformers gives for the tests of the cross-encoder.

The model is that of tests/model/tiny_bert.h with weights by a formula, so that the test makes the
same ones: of tensor t in the order of names, number i is scale * sin(0.9 i + 1.3 t + 1), plus 1 for
the weights of norms. Prints the lines of kGoldens in tests/model/cross_encoder_test.cc.

Needs: pip install torch transformers
"""
import pathlib
import tempfile

import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "on", "mat",
              "##s", "a")
QUESTION = "the cat"
PASSAGES = ("sat on a mat", "dog", "cats", "the cat sat on the mats")


def fill(model):
    """Overwrites all weights by the formula."""
    tensors = {name.removeprefix("bert."): tensor for name, tensor in model.named_parameters()}
    for number, name in enumerate(sorted(tensors)):
        tensor = tensors[name]
        index = torch.arange(tensor.numel(), dtype=torch.float64)
        values = torch.sin(0.9 * index + 1.3 * number + 1.0)
        if name.endswith("LayerNorm.weight"):
            values = 1.0 + 0.1 * values
        else:
            values *= 0.3
        tensor.data = values.float().reshape(tensor.shape)


def main():
    config = BertConfig(vocab_size=len(VOCABULARY), hidden_size=24, num_hidden_layers=2,
                        num_attention_heads=3, intermediate_size=40, max_position_embeddings=16,
                        type_vocab_size=2, num_labels=1, layer_norm_eps=1e-12)
    model = BertForSequenceClassification(config).eval()
    fill(model)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "vocab.txt"
        path.write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
        tokenizer = BertTokenizer(str(path))
    for passage in PASSAGES:
        tokens = tokenizer(QUESTION, passage, return_tensors="pt")
        with torch.no_grad():
            score = model(**tokens).logits[0, 0].item()
        print(f'    {{"{passage}", {score:.7f}F}},')


if __name__ == "__main__":
    main()
