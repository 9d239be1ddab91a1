"""Texts that tokenizers find hard, several scripts of them, and one window of each."""

LANGUAGES = {
    "code": "def f(xs):\n    if not xs:\n\treturn None  # no\n    return sum(xs) / len(xs)\n\n\nx = {'a': [1, -2]}\n",
    "english": "It's the \"tokenizer's\" own rule: don't cut where you can't spell, naïvely or not. (See §3.)",
    "german": "Überall fließt Wasser; Straßenbahnfahrer müssen früh aufstehen, größtenteils jedenfalls.",
    "french": "L'été dernier, où étiez-vous ? Ça coûte 12 € « environ », c'est-à-dire très cher.",
    "russian": "Съешь ещё этих мягких булок, да выпей же чаю — сказал он.",
    "arabic": "النص العربي يُكتب من اليمين إلى اليسار، وفيه حركات أحيانًا.",
    "hindi": "हिन्दी में मात्राएँ और संयुक्ताक्षर होते हैं, जैसे क्षत्रिय।",
    "japanese": "今日はいい天気ですね。カタカナとひらがな、漢字が混ざります。",
    "chinese": "分词器把文本切成小块、每一块都是字节。",
    "emoji": "👍🏽 👩‍👩‍👧‍👦 🇩🇪 ❤️ 🧑🏿‍🚀 ok",
    "line ends": "unix\nwindows\r\nold mac\rmixed\n\r\n\r\rend",
    "spaces": "a" + " " * 70 + "b\t\t\t  \t c" + "\n" * 9 + "d   ",
    "digits": "3.14159265358979323846 1000000000 007 1,234,567.89 2026-11-22",
    "control": "nul \0 bell \a escape \x1b[0m delete \x7f bom \ufeff joiner \u200d end \ufffd",
    "special": "<s>[INST] plain </s> <|endoftext|> <unk> <0x0A> [/INST] <pad>",
    "leading space": "  two before, none after",
}
