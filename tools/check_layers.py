#!/usr/bin/env python3
"""Fails when a folder reaches for a folder or a third-party library that it may not use.

Four rules, over the includes of every C++ and CUDA file and the targets named in CMake files:
  1. A folder includes only itself and the folders that ALLOWED grants it.
  2. A third-party header is included only where OWNERS says.
  3. A header that includes a third-party header, directly or through others, stays inside its
     folder: the rest of the program sees our types only.
  4. Our own headers are included by their full path from the repository's root.

Usage: tools/check_layers.py [ROOT]
"""
import pathlib
import re
import sys

PRODUCT = ("base", "kernels", "storage", "index", "model", "query", "engine", "client")
ALLOWED = {  # folder -> our folders that it may include, besides itself
    "base": set(),
    "kernels": {"base"},
    "storage": {"base"},
    "index": {"base", "kernels"},
    "model": {"base", "kernels"},
    "query": {"base", "kernels", "storage", "index", "model"},
    "engine": {"base", "kernels", "storage", "index", "model", "query"},
    "client": {"base"},
    "tests": set(PRODUCT),
    "bench": {*PRODUCT, "tests"},  # a kernel's test cases are its benchmark cases too
}
GRANTS = (  # files below a path -> one more path that they may include
    ("engine/server/", "client/idl/"),  # the server speaks the generated wire types
    ("client/shell/", "engine/"),  # the shell and the loader can embed the engine
    ("client/shell/", "query/"),  # the shell splits statements and shows values and errors
    ("client/ingest/", "engine/"),
)
OWNERS = (  # third party, include pattern, paths that may name it
    ("RocksDB", r"rocksdb/", ("storage/",)),
    ("FAISS", r"faiss/", ("index/",)),
    ("CRoaring", r"roaring/", ("index/",)),
    ("libstemmer", r"libstemmer", ("index/",)),
    ("CUDA", r"(cuda|cublas|cutlass/|cute/|cub/|thrust/|cooperative_groups|nvtx3/|mma\.h)",
     ("kernels/",)),
    ("oneDNN", r"(dnnl|oneapi/dnnl/)", ("kernels/",)),
    ("Highway", r"hwy/", ("kernels/",)),
    ("Thrift", r"thrift/", ("client/", "engine/server/")),
    ("CLI11", r"(CLI/|CLI11)", ("client/", "engine/server/")),
    ("the line editor", r"(histedit|editline)", ("client/", "engine/server/")),
    ("Prometheus", r"prometheus/", ("engine/server/",)),
    ("httplib", r"(cpp-)?httplib", ("engine/server/",)),
    ("JSON", r"(nlohmann/|simdjson)",
     ("base/", "client/", "engine/", "model/", "query/", "storage/")),
    ("Unicode", r"(utf8proc|unicode/)", ("base/", "index/", "model/", "query/")),
    ("spdlog and fmt", r"(spdlog|fmt)/", ("base/",)),  # the others log through base/log.h
    ("xxHash", r"xxh(ash|3)", ("base/",)),
    ("liburing", r"liburing", ("base/",)),
    ("OpenSSL", r"openssl/", ("base/",)),  # SHA-256 of identities
    ("HTML and Markdown", r"(gumbo|md4c|cmark)", ("query/",)),  # text extraction
    ("GoogleTest", r"(gtest|gmock)/", ()),
    ("Google Benchmark", r"benchmark/", ()),
)
GENERATED = ("client/idl/",)  # written by the Thrift compiler into the build folder
FREE = ("tests", "bench")  # may use any third party, and are used by nobody
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)
TARGET = re.compile(r"\bintarsia_(" + "|".join(ALLOWED) + r")(?:_(\w+))?\b")
SUFFIXES = {".h", ".cc", ".cu", ".cuh", ".inc"}


def third_party_of(include):
    """The OWNERS row that `include` falls under, or None."""
    return next((row for row in OWNERS if re.match(row[1], include)), None)


def may_use(name, target):
    """Whether the file `name` may include or link `target`, a path inside one of our folders."""
    folder, target_folder = name.split("/")[0], target.split("/")[0]
    return (
        target_folder == folder
        or target_folder in ALLOWED[folder]
        or any(name.startswith(user) and target.startswith(used) for user, used in GRANTS)
    )


def read_includes(root):
    """{file: [(line number, include, is quoted)]} over all our folders."""
    includes = {}
    for folder in ALLOWED:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in SUFFIXES:
                continue
            text = path.read_text(encoding="utf-8")
            includes[path.relative_to(root).as_posix()] = [
                (text.count("\n", 0, match.start(match.lastindex)) + 1, match[match.lastindex],
                 match.lastindex == 1)
                for match in INCLUDE.finditer(text)
            ]
    return includes


def find_leaks(includes):
    """{header: third party} for each header whose includer would also include that third party."""
    leaks = {}
    for name, rows in includes.items():
        for _, include, _ in rows:
            if name.endswith((".h", ".cuh")) and third_party_of(include):
                leaks[name] = third_party_of(include)[0]
    while True:
        found = {
            name: leaks[include]
            for name, rows in includes.items()
            for _, include, _ in rows
            if name not in leaks and name.endswith((".h", ".cuh")) and include in leaks
        }
        if not found:
            return leaks
        leaks.update(found)


def check_include(name, include, is_quoted, includes, leaks):
    """What is wrong with `name` including `include`, or None."""
    folder = name.split("/")[0]
    target_folder = include.split("/")[0]
    if target_folder in ALLOWED and "/" in include and not third_party_of(include):
        if not may_use(name, include):
            return f"{folder}/ may not include {include}"
        if target_folder != folder and folder not in FREE and include in leaks:
            return f"{include} exposes {leaks[include]}: hide it in a .cc or .cu file"
        if include not in includes and not include.startswith(GENERATED):
            return f"{include} does not exist"
        return None
    row = third_party_of(include)
    if row and folder not in FREE and not name.startswith(row[2]):
        owners = ", ".join(row[2]) or "tests/ and bench/"
        return f"only {owners} may include {row[0]} ({include})"
    if is_quoted and not row:
        return f'"{include}" is not a full path below one of our folders'
    return None


def check_cmake(root):
    errors = []
    for folder in PRODUCT:
        for path in sorted((root / folder).rglob("CMakeLists.txt")):
            name = path.relative_to(root).as_posix()
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                for match in TARGET.finditer(line.split("#")[0]):
                    # intarsia_client_idl is what client/idl/ builds.
                    target = "/".join(filter(None, match.groups())) + "/"
                    if not may_use(name, target):
                        errors.append(f"{name}:{number}: {folder}/ may not link {match[0]}")
    return errors


def main(arguments):
    root = pathlib.Path(arguments[0] if arguments else ".").resolve()
    includes = read_includes(root)
    if not includes:
        print(f"no source files found below {root}")
        return 1
    leaks = find_leaks(includes)
    errors = check_cmake(root)
    for name, rows in includes.items():
        for number, include, is_quoted in rows:
            problem = check_include(name, include, is_quoted, includes, leaks)
            if problem:
                errors.append(f"{name}:{number}: {problem}")
    print("\n".join(errors) or f"layers: {len(includes)} files, no violation")
    return bool(errors)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
