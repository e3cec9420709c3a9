"""The text in which Prometheus scrapes metrics: of many processes read, labelled and put together into one.

Whoever answers on a socket may be any program: a line that is no sample of memlimit's is an error of that process,
and nothing of it gets into what the exporter says.
"""

import dataclasses
import math
import re

from .text import UserError

NAME = r"memlimit_[a-z0-9_]+"
LABEL = r'[a-z_]+="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{((?:{LABEL}(?:,{LABEL})*)?)\}})? (-?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?)")
LABEL_NAME = re.compile(r'([a-z_]+)="(?:[^"\\\n]|\\["\\n])*"')
HELP = re.compile(rf"# HELP ({NAME}) (.*)")
TYPE = re.compile(rf"# TYPE ({NAME}) (counter|gauge|histogram)")
OF_HISTOGRAM = ("_bucket", "_sum", "_count")
# What the exporter says itself of a process. A name that is there twice makes Prometheus refuse the whole scrape.
OUR_LABELS = re.compile(r'(?:^|,)(?:pid|name|socket)="(?:[^"\\\n]|\\["\\n])*"')
OUR_FAMILIES = re.compile(r"memlimit_up|memlimit_exporter_.*")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def escaped(value):
    """A label's value as it stands between quotes. A name that is no UTF-8 loses those bytes."""
    value = value.encode("utf-8", errors="replace").decode()
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def label_text(labels):
    return ",".join(f'{key}="{escaped(str(value))}"' for key, value in labels.items())


@dataclasses.dataclass
class Family:
    kind: str
    sentence: str
    samples: list = dataclasses.field(default_factory=list)  # (name, labels, value)


def is_sample_of(sample, family, kind):
    """Whether it belongs to the family above it, no label of it is there twice, and Go can hold the number."""
    name, labels = sample[1], LABEL_NAME.findall(sample[2] or "")
    belongs = name == family or (kind == "histogram" and name.startswith(family) and name[len(family) :] in OF_HISTOGRAM)
    return belongs and len(set(labels)) == len(labels) and math.isfinite(float(sample[3]))


def parse(text):
    """{name: Family} of a process's file `metrics`. UserError where it is none, or not whole."""
    lines = text.removesuffix("\n").split("\n")
    if not lines or lines[-1] != "# EOF":
        raise UserError("the answer is no metrics, or not all of them")
    families, sentences, name = {}, {}, None
    for line in lines[:-1]:
        if found := HELP.fullmatch(line):
            sentences[found[1]] = found[2].replace("\\", "?")
        elif (found := TYPE.fullmatch(line)) and not OUR_FAMILIES.fullmatch(found[1]):
            name = found[1]
            families[name] = Family(found[2], sentences.get(name, ""))
        elif line.startswith("# UNIT "):
            continue
        elif (found := SAMPLE.fullmatch(line)) and name and is_sample_of(found, name, families[name].kind):
            families[name].samples.append((found[1], found[2] or "", found[3]))
        else:
            raise UserError(f"not a line of metrics: {line[:80]}")
    return families


def process_labels(families):
    """pid and name as the process itself tells them, for one that is known by its socket alone."""
    for _, labels, _ in families.get("memlimit_process_info", Family("gauge", "")).samples:
        pid = re.search(r'(?:^|,)pid="([0-9]{1,10})"', labels)
        name = re.search(r'(?:^|,)name="((?:[^"\\\n]|\\["\\n])*)"', labels)
        if pid and name:
            return {"pid": pid[1], "name": re.sub(r"\\(.)", r"\1", name[1])}
    raise UserError("the metrics do not tell whose they are")


class Exposition:
    """One text out of many: each family once, its samples one after the other."""

    def __init__(self):
        self.families = {}

    def add(self, families, labels):
        """A process's metrics, each sample with these labels. The first process to have a family gives it its head; of
        what another version of the library says of it, Prometheus takes the samples."""
        ours = label_text(labels)
        for name, family in families.items():
            known = self.families.setdefault(name, Family(family.kind, family.sentence))
            for sample, own, value in family.samples:
                own = OUR_LABELS.sub("", own).lstrip(",")
                known.samples.append((sample, f"{ours},{own}" if own else ours, value))

    def put(self, name, kind, sentence, samples):
        """A family of the exporter's own: samples are (labels, value)."""
        family = self.families.setdefault(name, Family(kind, sentence))
        family.samples += [(name, label_text(labels), value) for labels, value in samples]

    def text(self):
        lines = []
        for name, family in self.families.items():
            if not family.samples:
                continue
            lines += [f"# HELP {name} {family.sentence}", f"# TYPE {name} {family.kind}"]
            for sample, labels, value in family.samples:
                lines.append(f"{sample}{{{labels}}} {value}" if labels else f"{sample} {value}")
        return "\n".join(lines) + "\n"
