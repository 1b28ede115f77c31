#!/usr/bin/env python3
"""Merges coverage into one lcov file, in place of Bazel's own tool, which is a download.

Bazel runs it after each test, over what the test's code counted (--coverage_dir), and once at the
end, over the results of all tests (--reports_file, a list of lcov files).
"""

import argparse
import collections
import json
import os
import pathlib
import subprocess


class Report:
    def __init__(self):
        # Source file to line number to hits, and to function name to [first line, hits].
        self.lines = collections.defaultdict(collections.Counter)
        self.functions = collections.defaultdict(dict)

    def add_function(self, source, name, line, hits):
        known = self.functions[source].setdefault(name, [line, 0])
        known[1] += hits

    def add_gcov(self, path, sources):
        # Not from the files that Bazel's script had gcov write: those of protocol/session.c and
        # client/session.c would have one name.
        gcov = os.environ.get("COVERAGE_GCOV_PATH", "gcov")
        text = subprocess.run([gcov, "--json-format", "--stdout", str(path)], check=True,
                              stdout=subprocess.PIPE).stdout
        for file in json.loads(text)["files"]:
            source = file["file"]
            if source not in sources:  # the tests themselves, and headers of the system
                continue
            for line in file["lines"]:
                self.lines[source][line["line_number"]] += line["count"]
            for function in file["functions"]:
                self.add_function(source, function["name"], function["start_line"],
                                  function["execution_count"])

    def add_lcov(self, path):
        source = None
        first_lines = {}
        for row in path.read_text(encoding="utf-8").splitlines():
            kind, _, value = row.partition(":")
            if kind == "SF":
                source = value
                first_lines = {}
                self.lines[source].update({})  # a file that no test touched is listed as well
            elif kind == "FN":
                line, name = value.split(",", 1)
                first_lines[name] = int(line)
            elif kind == "FNDA":
                hits, name = value.split(",", 1)
                self.add_function(source, name, first_lines[name], int(hits))
            elif kind == "DA":
                line, hits = value.split(",")[:2]
                self.lines[source][int(line)] += int(hits)

    def write(self, path):
        with open(path, "w", encoding="utf-8") as out:
            for source, lines in sorted(self.lines.items()):
                functions = self.functions[source]
                print(f"SF:{source}", file=out)
                for name, (line, _) in functions.items():
                    print(f"FN:{line},{name}", file=out)
                for name, (_, hits) in functions.items():
                    print(f"FNDA:{hits},{name}", file=out)
                print(f"FNF:{len(functions)}", file=out)
                print(f"FNH:{sum(hits > 0 for _, hits in functions.values())}", file=out)
                for line, hits in sorted(lines.items()):
                    print(f"DA:{line},{hits}", file=out)
                print(f"LF:{len(lines)}", file=out)
                print(f"LH:{sum(hits > 0 for hits in lines.values())}", file=out)
                print("end_of_record", file=out)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--coverage_dir", type=pathlib.Path)
    parser.add_argument("--source_file_manifest", type=pathlib.Path)
    parser.add_argument("--reports_file", type=pathlib.Path)
    parser.add_argument("--output_file", required=True)
    options, _ = parser.parse_known_args()  # the manifest makes Bazel's other filters unnecessary

    report = Report()
    if options.coverage_dir:
        # Lists the instrumented sources and a .gcno for each object file made of them.
        manifest = options.source_file_manifest.read_text(encoding="utf-8").split()
        for notes in manifest:
            if notes.endswith(".gcno"):
                # What never ran has notes only; gcov then says which of its lines were missed.
                counts = (options.coverage_dir / notes).with_suffix(".gcda")
                report.add_gcov(counts if counts.exists() else pathlib.Path(notes), set(manifest))
    if options.reports_file:
        for path in options.reports_file.read_text(encoding="utf-8").splitlines():
            report.add_lcov(pathlib.Path(path))
    report.write(options.output_file)


if __name__ == "__main__":
    main()
