"""Reads a result file the way core/io/README.md says, and compares every row with the JSON Lines of the
same results: read_with_h5py.py RESULTS.h5 RESULTS.jsonl"""

import json
import sys

import h5py


def text(values):
    return values.tobytes().decode("utf-8", errors="replace")


def ragged(group, row):
    begin, end = group["offsets"][row : row + 2]
    return group["values"][begin:end]


def completion(outputs, row):
    reasons = {number: name for name, number in h5py.check_enum_dtype(outputs["finish_reason"].dtype).items()}
    fields = {
        "text": text(ragged(outputs["text"], row)),
        "token_ids": ragged(outputs["token_ids"], row).tolist(),
        "finish_reason": reasons[outputs["finish_reason"][row]],
        "stop_reason": text(ragged(outputs["stop_reason"], row)) or None,
    }
    logprobs = outputs["logprobs"]
    first, last = logprobs["offsets"][row : row + 2]
    if first < last:
        fields["logprobs"] = []
        for position in range(first, last):
            begin, end = logprobs["top_offsets"][position : position + 2]
            top = zip(logprobs["top_token_id"][begin:end], logprobs["top_logprob"][begin:end])
            fields["logprobs"].append({
                "token_id": int(logprobs["token_id"][position]),
                "logprob": round(float(logprobs["logprob"][position]), 5),
                "rank": int(logprobs["rank"][position]),
                "top": [{"token_id": int(t), "logprob": round(float(p), 5)} for t, p in top],
            })
    return fields


def main():
    file = h5py.File(sys.argv[1], "r")
    lines = [json.loads(line) for line in open(sys.argv[2], encoding="utf-8")]
    assert file.attrs["format"] == "millrace results", file.attrs["format"]
    assert file.attrs["schema_version"] == 1
    assert file["config"].attrs["model"] == "a model"
    assert list(file["topology/ranks/host"].asstr()) == ["host0", "host1"]
    assert file["kv_cache"].attrs["tokens"] == 16 * 500
    requests, outputs = file["requests"], file["outputs"]
    assert len(requests["offset"]) == len(lines)
    for row, line in enumerate(lines):
        first, count = requests["first_output"][row], requests["outputs"][row]
        completions = [completion(outputs, first + i) for i in range(count)]
        expected = line.get("outputs") or ([line] if line["error"] is None else [])
        for fields in expected:
            for position in fields.get("logprobs", []):
                position["logprob"] = round(position["logprob"], 5)
                for top in position["top"]:
                    top["logprob"] = round(top["logprob"], 5)
        assert len(completions) == len(expected), (row, completions, expected)
        for got, wanted in zip(completions, expected):
            for name, value in got.items():
                assert value == wanted[name], (row, name, value, wanted[name])
        assert text(ragged(requests["id"], row)) == (line["id"] or "")
        assert text(ragged(requests["error"], row)) == (line["error"] or "")
        assert ragged(requests["prompt_token_ids"], row).tolist() == line["prompt_token_ids"]
        assert requests["prompt_tokens"][row] == line["prompt_tokens"]
    print(f"{len(lines)} rows agree")


if __name__ == "__main__":
    main()
