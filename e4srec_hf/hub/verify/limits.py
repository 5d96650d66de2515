"""Bounds of a verification: what it reads of a repo, and what a repo may ask for; docs/share.md lists them."""

#: Files and folders that are listed.
MOST_FILES = 2_000
#: Bytes of a Python file, and of the model card.
LARGEST_TEXT_READ = 1024**2
#: Bytes of any other file that holds neither JSON nor weights.
LARGEST_OTHER = 64 * 1024**2
#: Bytes of a JSON file, and what the catalogue adds to that for the files that have an entry for each item.
LARGEST_JSON, JSON_OF_AN_ITEM = 4 * 1024**2, 2048
#: Bytes of the tokenizer of a base: that of Gemma 3 has 33 MB.
LARGEST_TOKENIZER = 40 * 1024**2
#: Bytes of all JSON files together, and what each item adds.
ALL_JSON, ALL_JSON_OF_AN_ITEM = 96 * 1024**2, 2 * JSON_OF_AN_ITEM
#: Commas and opening brackets of a JSON file, what each item adds, and those of the tokenizer of a base. A parsed value
#: takes up to 70 bytes.
MOST_VALUES, VALUES_OF_AN_ITEM, VALUES_OF_A_TOKENIZER = 250_000, 8, 2_500_000
#: JSON values one inside the other.
DEEPEST_JSON = 64
#: Tensors in a safetensors file.
MOST_TENSORS = 40_000
#: Files that the weights of a base are divided into.
MOST_SHARDS = 512
#: Layers or experts that a config asks for.
MOST_PARTS = 512
#: Modules of a model that is built to know its tensors. 126 layers with LoRA on each matrix have 10,000.
MOST_MODULES = 12_288
#: Labels of a classifier, which a config lists.
MOST_LABELS = 4096
#: Any whole number in a config, and any other one.
LARGEST_NUMBER, LARGEST_FRACTION = 2**25, 2.0**40
#: Findings that are reported on one file, and on all; characters of a line of the report.
MOST_FINDINGS, MOST_IN_ALL, LONGEST_LINE = 20, 200, 500
#: Tokens of each part of the prompt.
LONGEST_PROMPT = 2**16
#: Bytes of weights that are in memory while their values are read.
CHUNK = 16 * 1024**2
#: Seconds for building the tokenizer of a base and tokenizing the prompt.
LONGEST_TOKENIZING = 30
