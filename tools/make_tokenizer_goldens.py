#!/usr/bin/env python3
"""Writes what other programs make of awkward strings: tests/data/tokenizer/*.json.

  smollm2, qwen2, gemma3: token ids by llama.cpp, as user text and as template text
  minilm: token ids by Hugging Face's tokenizers
  default_words, gpt2_words, llama3_words: words by the official regular expressions

Needs the models of tools/fetch_models.sh and the packages llama-cpp-python, tokenizers and regex.

Usage: tools/make_tokenizer_goldens.py [ROOT]
"""
import json
import pathlib
import random
import sys

import llama_cpp
import regex
import tokenizers

GGUF = {
    "smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "qwen2": "Qwen2.5-Coder-0.5B-Instruct-Q4_K_M.gguf",
    "gemma3": "gemma-3-270m-q4_k_m.gguf",
}
# Where we differ on purpose: an HTML tag does not end a sequence, and no text names an image.
SKIPPED = {"qwen2": ("</s>",), "gemma3": ("</s>", "<start_of_image>")}
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
# A rule is a list of expressions, each applied inside the words of the one before.
WORD_RULES = {
    "default_words": [r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"],
    "gpt2_words": [GPT2],
    "llama3_words": [LLAMA3],
}
FIXED = [
    "", " ", "  ", "   ", "    ", "\n", "\n\n", "\n\n\n", "\r\n", "\r\n\r\n", "\r", "\t", "\t\t",
    "\t \t", " \n", "\n ", " \n ", "  \n  \n  ", "\n\t\n", "\v", "\f", "a\vb", "a\fb", "\x85",
    "a\x85b", "a\u2028b", "a\u2029b", "a\u00a0b", "\u00a0", "\u00a0\u00a0x", "x\u3000y", "\u3000",
    "a\u200bb", "\ufeffbom", "\u2060", "\u00ad", "soft\u00adhyphen", "a\u1680b", "\u2003em space",
    "Hello", " Hello", "Hello ", "Hello world", "Hello, world!", "HELLO WORLD", "hello  world",
    "hello   world", "hello\tworld", "hello\nworld", "hello \n world", "hello\r\nworld",
    "The quick brown fox jumps over the lazy dog.", "Don't stop", "don't DON'T Don'T",
    "I'm you're", "we've they'll he'd it's", "I'M YOU'RE WE'VE THEY'LL HE'D IT'S",
    "'s't're've'm'll'd", "' s", "''s", "'S 'T 'RE", "rock 'n' roll", "o'clock", "'tis",
    "l'\u00e9t\u00e9", "it\u2019s", "'", "''", "'a", "'lx", "'l", "'r", "'re", "x'", "\"quoted\"",
    "\u201cquoted\u201d", "(a)", "[b]", "{c}", "a/b\\c", "a-b--c---d", "a_b__c", "#hashtag @user",
    "$100.00", "50%", "a+b=c", "~`^|", "!!!???...", "...", "\u2026", "!?\n\n", "?!\r\n\r\nx",
    " !\n", ".\n\n\n", "=====\n=====", ";)", "0", "1", "12", "123", "1234", "12345", "123456",
    "1234567890", " 1", " 12", "  123", "3.14159", "1,234,567.89", "1e-10", "0x1F",
    "2024-01-31T12:34:56Z", "192.168.0.1", "v1.2.3", "a1b2c3", "1st 2nd 3rd", "\u0661\u0662\u0663",
    "\u0967\u0968\u0969 1\u0968" "3", "\u00bd", "x\u00b2+y\u00b3", "\u2160\u2161\u2162",
    "\u2460\u2461", "\uff11\uff12\uff13", "\U0001d7d8", "1\u0662" "3456", "12a345b6789",
    "\u0e51\u0e52", "caf\u00e9", "cafe\u0301", "na\u00efve", "r\u00e9sum\u00e9 re\u0301sume\u0301",
    "\u0301", "a\u0301\u0302\u0303\u0304", "Z\u0351\u036b\u0343\u036a\u0302a\u0363l\u034bg\u0351o",
    "\u0130", "I\u0307", "\u0131", "stra\u00dfe STRASSE \u1e9e", "\u01c4 \u01c5 \u01c6",
    "\ufb01\ufb02", "\u00c5 A\u030a \u212b",
    "\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2 \u039f\u03a3",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!", "\u0439 \u0438\u0306",
    "\u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac",
    "\u0580\u0561\u0575\u0565\u0580\u0565\u0576",
    "\u10d2\u10d0\u10db\u10d0\u10e0\u10ef\u10dd\u10d1\u10d0", "\u12a0\u121b\u122d\u129b",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01", "\u4e2d\u6587 English \u6df7\u5408 text123",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8", "\u30ab\u30bf\u30ab\u30ca\u30fc",
    "\u304c \u304b\u3099", "\uff76\uff9e", "\ud55c\uad6d\uc5b4 \ubb38\uc7a5\uc785\ub2c8\ub2e4.",
    "\u1112\u1161\u11ab", "\U00020000\U0002a6d6", "\uf900", "\U0002f800", "\u3007\u3005\u3006",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "\u0627\u0644\u0639\u064e\u0631\u064e\u0628\u0650",
    "\u0645\u0631\u062d\u0628\u0627 world \u0645\u0631\u062d\u0628\u0627",
    "\u05e9\u05dc\u05d5\u05dd", "\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd", "\u202eabc\u202c",
    "\u200fRTL\u200e", "\u06cc\u06a9", "\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902",
    "\u0915\u094d\u0937", "\u09ac\u09be\u0982\u09b2\u09be", "\u0ba4\u0bae\u0bbf\u0bb4\u0bcd",
    "\u0c24\u0c46\u0c32", "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22", "\u0e97\u0eb2\u0ea7",
    "\u1019\u103c\u1014\u103a", "\u1781\u17d2\u1798\u17c2\u179a", "\u0f56\u0f7c\u0f51\u0f0b",
    "\u1820\u1823\u1829", "\U0001f600", "\U0001f600\U0001f601", " \U0001f44d",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f3f3\ufe0f\u200d\U0001f308",
    "\U0001f44d\U0001f3fd", "\U0001f1e9\U0001f1ea", "\u2764\ufe0f", "1\ufe0f\u20e3",
    "\u00a9\u00ae\u2122", "\u20ac\u00a3\u00a5", "\u2190\u2191\u2192", "\u2200x\u2208A",
    "\u222b\u2260\u2264", "\U0001d400\U0001d41b", "\u2500\u2502\u250c", "\u2588\u2591", "\u2581",
    "a\u2581b", "\u2581\u2581x", " \u2581 ", "\ue000\uf8ff", "\U000f0000", "\U0010ffff", "\ufffd",
    "\ufffe\uffff", "\ufdd0", "\u0378", "\U000e0001", "\x00", "a\x00b", "\x01\x02\x03",
    "\x1b[31mred\x1b[0m", "\x7f", "\x1c\x1d\x1e\x1f", "a\x1cb", "\x80\x9f",
    "def f(x):\n    return x + 1\n", "\tif (a == b) {\n\t\tc();\n\t}\n",
    "for (int i = 0; i < n; ++i)", "#include <vector>\r\n#include <map>\r\n",
    "SELECT * FROM t WHERE a = 'b''c';", "a->b::c<d>&&e||f",
    "https://example.com/path?q=1&r=%20#frag", "foo@bar.com", "C:\\Users\\x", "/usr/local/bin",
    "camelCaseIdentifier snake_case_identifier SCREAMING_CASE", "x = y  # comment\n\n\ny = z",
    "<div class=\"a\">text</div>", "<table><tr><td>1</td></tr></table>", "<b> </b>", "> </div>",
    "<p>a</p> </p>", "{\"k\": [1, 2.5, null, true]}", "```python\nprint('hi')\n```",
    "| a | b |\n|---|---|", "<|im_start|>user\nhi<|im_end|>", "<|endoftext|>", "a<|im_end|>b",
    "<|im_end|", "|im_end|>", "< |im_end|>", "<|IM_END|>", "<|begin_of_text|>", "<|eot_id|>",
    "<start_of_turn>user\nx<end_of_turn>", "<bos>", "<eos>", "<pad>", "<unk>", "<mask>", "<s>",
    "</s>", "[CLS]", "[SEP] [MASK] [PAD]", "[UNK]", "<|fim_prefix|>x<|fim_suffix|>",
    "<tool_call>{}</tool_call>", "<0x0A>", "<0x41>", "<unused0>", "<repo_name>", "<file_sep>",
    "<start_of_image>", "##ing", "## ing", "\u0120Hello", "\u010a", "antidisestablishmentarianism",
    "Donaudampfschifffahrtsgesellschaftskapit\u00e4n", "supercalifragilisticexpialidocious " * 3,
    "a" * 99, "a" * 100, "a" * 101, "a" * 300, "ab" * 150, "\u00e9" * 101, "\u4e2d" * 40, "=" * 80,
    "-" * 133, " " * 40, " " * 70 + "x", "\n" * 35, "\t" * 33, "\n \n" * 12, "1" * 50,
    "0123456789" * 6, "!" * 64, "\U0001f600" * 20, "xyz " * 40, "\r\n" * 20,
    "aaaa bbbb  cccc   dddd    eeee     ffff", "The cat\n\n\n  sat \t on\r\n the   mat.  ",
]
ALPHABETS = [
    "abcdefghijklmnopqrstuvwxyz     ABCXYZ", "ab1 2\n\t'.,", "  \n\r\t\u00a0\u3000x1.",
    "'stdmrevl SL", "0123456789 .,a", "\u4e2d\u6587\u5b57a 1\uff0c",
    "\u0430\u0431\u0432\u0413 \u0301-", "!?.,;:'\"()\n a1", "\u0e01\u0e34\u0e40 \u0e2d1",
    "\U0001f600\u200d\ufe0f\U0001f3fd a\u2764", "<|>/_im_end\n", "\u0915\u094d\u093f \u0964a1",
    "\u0627\u064e\u0644 \u06601\u200f", "{}[]()=+-*/ \n\tx1_",
]


def make_strings():
    """The fixed strings and 300 random ones, the same in every run."""
    chance = random.Random(7)
    strings = list(FIXED)
    for i in range(300):
        alphabet = ALPHABETS[i % len(ALPHABETS)]
        if i % 5 == 4:
            alphabet += ALPHABETS[chance.randrange(len(ALPHABETS))]
        strings.append("".join(chance.choice(alphabet) for _ in range(chance.randrange(1, 48))))
    return list(dict.fromkeys(strings))


def make_gguf(name, path, strings):
    llm = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    vocab = llama_cpp.llama_model_get_vocab(llm.model)
    strings = [s for s in strings if not any(skip in s for skip in SKIPPED.get(name, ()))]

    def encode(special):
        return [llm.tokenize(s.encode(), add_bos=False, special=special) if s else []
                for s in strings]

    num_tokens = llama_cpp.llama_vocab_n_tokens(vocab)
    stops = [i for i in range(num_tokens) if llama_cpp.llama_vocab_is_eog(vocab, i)]
    return {
        "strings": strings,
        "user": encode(False),
        "template": encode(True),
        "vocab_size": num_tokens,
        "bos": llama_cpp.llama_vocab_bos(vocab),
        "eos": llama_cpp.llama_vocab_eos(vocab),
        "eot": llama_cpp.llama_vocab_eot(vocab),
        "adds_bos": bool(llama_cpp.llama_vocab_get_add_bos(vocab)),
        "stops": stops,
    }


def make_wordpiece(path, strings):
    """Added tokens are taken out of the file: in user text their names are plain text."""
    file = json.loads(path.read_text())
    file.update(added_tokens=[], truncation=None, padding=None, post_processor=None)
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(file))
    encodings = [tokenizer.encode(s) for s in strings]
    return {
        "strings": strings,
        "user": [e.ids for e in encodings],
        # In code points of the string.
        "ranges": [[list(r) for r in e.offsets] for e in encodings],
    }


def split(rule, text):
    """The matches of `rule` and what lies between them."""
    end = 0
    for match in regex.finditer(rule, text):
        yield text[end:match.start()]
        yield match[0]
        end = match.end()
    yield text[end:]


def make_words(rules, strings):
    words = [[s] for s in strings]
    for rule in rules:
        words = [[part for word in row for part in split(rule, word) if part] for row in words]
    return {"strings": strings, "words": words}


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    strings = make_strings()
    goldens = {name: make_gguf(name, root / "models" / file, strings)
               for name, file in GGUF.items()}
    goldens["minilm"] = make_wordpiece(root / "models/all-MiniLM-L6-v2/tokenizer.json", strings)
    for name, rule in WORD_RULES.items():
        goldens[name] = make_words(rule, strings)
    for name, golden in goldens.items():
        path = root / "tests/data/tokenizer" / f"{name}.json"
        path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
        print(path, len(golden["strings"]), "strings", path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
