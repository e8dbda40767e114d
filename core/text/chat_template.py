"""Renders chat templates for millrace: the program of the co-process (core/text/chat_renderer.cpp).

Standard input and output are one socket that carries one JSON object per line, and each line in is
answered by one line out. The first line is empty; its answer, {"ready": true} or {"fatal": why}, says
whether there is a jinja2. The second is {"template", "special_tokens", "render_seconds",
"output_bytes"}, with the same answers. Each further one is {"messages", "add_generation_prompt",
"variables"}; its answer is {"text": prompt} or {"error": why}. The environment is the one that
transformers gives templates.
"""

import sys

# Started with -c, Python would look for modules in the current folder first.
sys.path = [folder for folder in sys.path if folder]

import datetime
import json
import resource
import signal

MEMORY_BYTES = 4 << 30  # of the whole process: what a template can multiply its text to


def give_up_rights():
    """Jinja2's sandbox keeps templates from the system. Should one get out of it all the same, the
    process can open no file and no socket, write no file, start no program and leave no core."""
    for limit, most in [(resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_NOFILE, 3),
                        (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_NPROC, 0), (resource.RLIMIT_CORE, 0)]:
        resource.setrlimit(limit, (most, most))


class Stopped(BaseException):
    """The time for one render is over."""


class Refused(Exception):
    """What the messages hold is nothing that a template could be given."""


def on_alarm(signum, frame):
    raise Stopped()


def one_line(error):
    return " ".join(f"{type(error).__name__}: {error}".split())


def make_environment():
    import jinja2
    import jinja2.ext
    import jinja2.sandbox

    class GenerationTag(jinja2.ext.Extension):
        """{% generation %} marks what the model wrote, for training; here its body is just text."""

        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            call = self.call_method("_body")
            return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

        def _body(self, caller):
            return caller()

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        # Unlike Jinja2's own filter this does not escape for HTML.
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True,
        extensions=[GenerationTag, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return environment


def warm_up(environment):
    """What Python reads at first use (modules, codecs, the time zone), as long as it may."""
    try:
        environment.from_string(
            "{{ strftime_now('%d %b %Y') }}{{ [1, 'a'] | tojson(indent=2) }}{{ ['b', 'a'] | sort | join | title }}"
            "{% generation %}{{ 'é' | upper | e }}{% endgeneration %}{{ raise_exception('warm') }}").render()
    except Exception as error:
        one_line(error)


def goes_through_parts(environment, source):
    """Whether a template itself takes a message's content as a list of parts, as OpenAI's API has them: it loops over
    `content`, or over what it has set to it. Others take text, and would write a list as Python writes one."""
    from jinja2 import nodes

    def is_content(node):
        while isinstance(node, nodes.Filter):
            node = node.node
        return (isinstance(node, nodes.Getattr) and node.attr == "content"
                or isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const)
                and node.arg.value == "content"
                or isinstance(node, nodes.Name) and node.name in names)

    names = {"content"}
    tree = environment.parse(source)
    for assignment in tree.find_all(nodes.Assign):
        if isinstance(assignment.target, nodes.Name) and is_content(assignment.node):
            names.add(assignment.target.name)
    return any(is_content(loop.iter) for loop in tree.find_all(nodes.For))


def text_of(part):
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else part
    if kind != "text" or not isinstance(part.get("text"), str):
        raise Refused(f"content has the part {json.dumps(kind)[:60]}, but the model takes text alone")
    return part["text"]


def join_parts(messages):
    """Gives content that is a list of texts as one text, a part a line, as vLLM does."""
    for message in messages:
        if isinstance(message, dict) and isinstance(message.get("content"), list):
            message["content"] = "\n".join(text_of(part) for part in message["content"])


def render(template, setup, request):
    if not setup["goes_through_parts"]:
        join_parts(request["messages"])
    variables = {"tools": None, "documents": None, **setup["special_tokens"], **request["variables"]}
    parts, size = [], 0
    for part in template.generate(messages=request["messages"],
                                  add_generation_prompt=request["add_generation_prompt"], **variables):
        size += len(part.encode("utf-8", "replace"))
        if size > setup["output_bytes"]:
            return {"error": f"the chat template wrote more than {setup['output_bytes']} bytes"}
        parts.append(part)
    return {"text": "".join(parts).encode("utf-8", "replace").decode("utf-8")}


class TimeLimit:
    """Raises Stopped in what runs within it for longer than `seconds`."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __enter__(self):
        signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(self, *unused):
        signal.setitimer(signal.ITIMER_REAL, 0)


def main():
    lines = sys.stdin.buffer

    def answer(value):
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()

    signal.signal(signal.SIGALRM, on_alarm)
    # Launchers send these to every process of a job: millrace decides when it stops.
    for asked in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(asked, signal.SIG_IGN)
    lines.readline()
    try:
        environment = make_environment()
    except ImportError as error:
        return answer({"fatal": f"python3 has no jinja2 ({error}); install the package python3-jinja2"})
    warm_up(environment)
    give_up_rights()
    answer({"ready": True})
    setup = json.loads(lines.readline())
    try:
        with TimeLimit(setup["render_seconds"]):
            template = environment.from_string(setup["template"])
            setup["goes_through_parts"] = goes_through_parts(environment, setup["template"])
    except Stopped:
        return answer({"fatal": f"the chat template took more than {setup['render_seconds']} s to compile"})
    except Exception as error:
        return answer({"fatal": f"the chat template does not compile: {one_line(error)}"})
    answer({"ready": True})
    for line in lines:
        try:
            request = json.loads(line)
            with TimeLimit(setup["render_seconds"]):
                result = render(template, setup, request)
        except Stopped:
            result = {"error": f"the chat template ran for more than {setup['render_seconds']} s"}
        except Refused as refusal:
            result = {"error": str(refusal)}
        except MemoryError:
            result = {"error": "the chat template ran out of memory"}
        except Exception as error:
            result = {"error": f"chat template: {one_line(error)}"}
        answer(result)


main()
