"""How often the ranks of a job open the model's files, which lie on a file system that all hosts share: thousands of
ranks must not each open every shard. Needs strace, and a system that lets it trace; else it says that it was skipped."""

import collections
import json
import re
import unittest

from running_job import BINARY, MODELS, Workspace
from traced import lines, run_traced, skip_without_strace

SHARDS = 12
RANKS = 4


def split(source, folder):
    """The model of one safetensors file as one of many shards, layer after layer."""
    folder.mkdir()
    data = (source / "model.safetensors").read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    header.pop("__metadata__", None)
    weight_map = {}
    in_order = sorted(header)  # "model.layers.3. ..." by its one digit
    for shard in range(SHARDS):
        name = f"model-{shard:05}-of-{SHARDS:05}.safetensors"
        tensors, body = {}, b""
        for tensor in in_order[shard * len(header) // SHARDS:(shard + 1) * len(header) // SHARDS]:
            first, last = header[tensor]["data_offsets"]
            tensors[tensor] = {**header[tensor], "data_offsets": [len(body), len(body) + last - first]}
            body += data[begin + first:begin + last]
            weight_map[tensor] = name
        text = json.dumps(tensors).encode()
        (folder / name).write_bytes(len(text).to_bytes(8, "little") + text + body)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_bytes((source / name).read_bytes())


class Opens(unittest.TestCase):
    def setUp(self):
        workspace = Workspace()
        self.folder = workspace.__enter__()
        self.addCleanup(workspace.__exit__, None, None, None)
        self.model = self.folder / "model"
        split(MODELS / "llama-tied-bias", self.model)
        self.prompts = self.folder / "prompts.jsonl"
        self.prompts.write_text('{"prompt": [3, 4, 5]}\n' * 40)

    def opens(self, name, *more):
        """How often each file was opened by all ranks together."""
        trace = self.folder / f"trace-{name}"
        done = run_traced(RANKS, "openat", trace, BINARY, "--model", self.model, "--prompts", self.prompts, "--output",
                          self.folder / f"{name}.jsonl", "--max-tokens", "4", *more)
        self.assertEqual(done.returncode, 0, done.stderr)
        found = collections.Counter()
        for line in lines(trace):
            call = re.match(r'openat\(AT_FDCWD, "([^"]*)"', line)
            if call and call.group(1).startswith(str(self.folder)) and " = -1" not in line:
                found[call.group(1).rsplit("/", 1)[1]] += 1
        return found

    def test_a_rank_opens_only_the_shards_that_it_reads_weights_from(self):
        # Beside the ranks that read weights from it a shard is opened three times: for its header, for the comparison of
        # this host's files with other hosts', and for the fingerprint.
        found = self.opens("shared", "-dp", RANKS, "--load-strategy", "read")
        alone = collections.Counter({f"model-{shard:05}-of-{SHARDS:05}.safetensors": RANKS + 3 for shard in range(SHARDS)})
        self.assertEqual({name: count for name, count in found.items() if name in alone}, dict(alone))
        self.assertEqual(found["model.safetensors.index.json"], 3)

        # Stages have layers of their own: a shard is read by one of them, or by two where it is cut between them.
        found = self.opens("stages", "-pp", RANKS)
        readers = [count - 3 for name, count in found.items() if name in alone]
        self.assertEqual(len(readers), SHARDS)
        self.assertLessEqual(sum(readers), SHARDS + RANKS + 2)

    def test_other_files_are_opened_by_few(self):
        found = self.opens("small", "-tp", "2", "-pp", "2")
        self.assertLessEqual(found["prompts.jsonl"], 3 + 1)  # the range, the fingerprint, the reader
        self.assertLessEqual(found["tokenizer.json"], 3)


if __name__ == "__main__":
    skip_without_strace()
    unittest.main(verbosity=2)
