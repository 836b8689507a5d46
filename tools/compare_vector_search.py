#!/usr/bin/env python3
"""Compares searches of this project with the HNSW of faiss-cpu, hnswlib and usearch.

All of them search the same embeddings with the same queries on the same machine. A library's
breadth of search is raised until its recall@10 reaches what is wanted, so that times are compared
at equal recall: first that of the binary scan with its own settings, then --recall, for which the
binary scan is calibrated too. What is measured is measured in turns, --rounds times, and the best
of a way is taken, because another program may run meanwhile. Builds are told in seconds of the
processor, which is what one thread takes, and by the clock with all threads. What is missing of the
libraries is reported and left out.

Memory is what an index holds of its own: of a library the size of what it saves, vectors included,
of ours codes, ids and, where they are not in a file, vectors. What lies in the page cache of a file
of vectors behind the queries, by the system's own reading ahead too, is told beside it.

Usage: tools/compare_vector_search.py EMBEDDINGS.npy --queries 200
       [--bench build/cpu/bin/index_vector_search_bench] [--measured 400] [--threads N] [--rounds 3]
       [--recall 0.95]
  --queries    rows at the end of the file that are queries and not searched
  --measured   the first of these that are used
Needs: pip install numpy faiss-cpu hnswlib usearch
tools/embed_passages.py makes embeddings.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

HITS = 10
BREADTHS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048)
LINKS = 16  # M: links of a vector
BUILD_BREADTH = 200  # ef_construction


def exact_hits(base, queries):
    scores = queries @ base.T
    return np.argsort(-scores, axis=1, kind="stable")[:, :HITS]


class Faiss:
    name = "faiss-cpu HNSW"

    def __init__(self, base, threads):
        import faiss

        faiss.omp_set_num_threads(threads)
        self.faiss, self.threads = faiss, threads
        self.index = faiss.IndexHNSWFlat(base.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = BUILD_BREADTH
        self.index.add(base)

    def set_breadth(self, breadth):
        self.index.hnsw.efSearch = breadth

    def search(self, queries, threads):
        self.faiss.omp_set_num_threads(threads)
        return self.index.search(queries, HITS)[1]

    def num_bytes(self):
        return self.faiss.serialize_index(self.index).nbytes


class Hnswlib:
    name = "hnswlib"

    def __init__(self, base, threads):
        import hnswlib

        self.index = hnswlib.Index(space="ip", dim=base.shape[1])
        self.index.init_index(len(base), M=LINKS, ef_construction=BUILD_BREADTH)
        self.index.add_items(base, num_threads=threads)

    def set_breadth(self, breadth):
        self.index.set_ef(max(breadth, HITS))

    def search(self, queries, threads):
        return self.index.knn_query(queries, k=HITS, num_threads=threads)[0]

    def num_bytes(self):
        return size_of_saved(self.index.save_index)


class Usearch:
    name = "usearch"

    def __init__(self, base, threads):
        from usearch.index import Index

        self.index = Index(ndim=base.shape[1], metric="ip", dtype="f32", connectivity=LINKS,
                           expansion_add=BUILD_BREADTH)
        self.index.add(np.arange(len(base)), base, threads=threads)

    def set_breadth(self, breadth):
        self.index.expansion_search = max(breadth, HITS)

    def search(self, queries, threads):
        keys = self.index.search(queries, HITS, threads=threads).keys
        return keys.reshape(len(queries), -1)

    def num_bytes(self):
        return size_of_saved(self.index.save)


def size_of_saved(save):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "index")
        save(path)
        return os.path.getsize(path)


def recall_of(found, truth):
    hits = sum(len(set(map(int, a)) & set(map(int, b))) for a, b in zip(found, truth))
    return hits / truth.size


def breadth_for(library, queries, truth, wanted):
    """(breadth, recall): the lowest breadth that reaches the wanted recall, or the highest."""
    for breadth in BREADTHS:
        library.set_breadth(breadth)
        recall = recall_of(library.search(queries, 1), truth)
        if recall >= wanted:
            break
    return breadth, recall


def time_library(library, breadth, queries, threads):
    """(median microseconds of a query, queries a second one by one, of all threads)"""
    library.set_breadth(breadth)
    times = []
    for query in queries:
        start = time.perf_counter()
        library.search(query[None, :], 1)
        times.append(time.perf_counter() - start)
    rates = []
    for count in (1, threads):
        start = time.perf_counter()
        library.search(queries, count)
        rates.append(len(queries) / (time.perf_counter() - start))
    return 1e6 * statistics.median(times), *rates


class Row:
    """What is known of one way to search at one recall."""

    def __init__(self, name, build, num_bytes, recall, note):
        self.name, self.build, self.num_bytes = name, build, num_bytes
        self.recall, self.note = recall, note
        self.median_us, self.rate, self.rate_all = float("inf"), 0.0, 0.0

    def take(self, median_us, rate, rate_all):
        self.median_us = min(self.median_us, median_us)
        self.rate, self.rate_all = max(self.rate, rate), max(self.rate_all, rate_all)

    def show(self):
        print(f"| {self.name} | {self.build[0]:.1f} | {self.build[1]:.1f} | "
              f"{self.num_bytes / 1e6:.1f} | {self.recall:.4f} | {self.median_us:.0f} | "
              f"{self.rate:.0f} | {self.rate_all:.0f} | {self.note} |", flush=True)


def run_ours(arguments, path, recall, rows, vector_bytes):
    """Takes one round of our searches into `rows`, by name."""
    reports = []
    for threads in (1, arguments.threads):
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "out.json")
            subprocess.run([arguments.bench, "--vectors", path, "--queries",
                            str(arguments.measured), "--threads", str(threads), "--recall",
                            str(recall), "--unfiltered", "--json", out], check=True,
                           stdout=subprocess.DEVNULL)
            with open(out, encoding="utf-8") as file:
                reports.append(json.load(file))
    one, all_threads = ({search["way"]: search for search in report["searches"]}
                        for report in reports)
    binary = [report["binary"] for report in reports]
    build = (binary[0]["cpu_s"], (binary[1]["build_ms"] + binary[1]["calibrate_ms"]) / 1e3)
    for way, found in one.items():
        name = f"ours, {way}" + (f", for {recall}" if recall else "")
        is_flat = way == "flat scan"
        in_file = way.endswith("in a file")
        if is_flat and recall:
            continue
        note = "exact" if is_flat else (f"{binary[0]['bits']} bits, query of "
                                        f"{binary[0]['query_bits']}, bound "
                                        f"{binary[0]['error_bound']}; the codes alone "
                                        f"{binary[0]['bytes'] / 1e6:.1f} MB")
        num_bytes = vector_bytes + (0 if is_flat else binary[0]["bytes"])
        if in_file:
            file = reports[0]["file"]
            num_bytes = file["heap_bytes"]
            note += f"; {file['cached_bytes'] / 1e6:.1f} MB of vectors in the page cache"
        row = rows.setdefault(name, Row(name, (0.0, 0.0) if is_flat else build, num_bytes,
                                        found["recall"], note))
        if not is_flat:
            row.build = tuple(min(a, b) for a, b in zip(row.build, build))
        row.take(found["median_us"], 1e6 / found["median_us"],
                 all_threads[way]["queries_per_second"])


def build_library(library_type, base, threads):
    """(library, (seconds of the processor, seconds by the clock)); None if it is missing."""
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        library = library_type(base, threads)
    except ImportError as error:
        print(f"{library_type.name}: not installed: {error}", file=sys.stderr)
        return None
    return library, (time.process_time() - cpu, time.perf_counter() - wall)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("embeddings")
    parser.add_argument("--bench", default="build/cpu/bin/index_vector_search_bench")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--measured", type=int, default=400)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recall", type=float, default=0.95)
    arguments = parser.parse_args()
    vectors = np.load(arguments.embeddings).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    arguments.measured = min(arguments.measured, arguments.queries)
    base = vectors[: -arguments.queries]
    queries = vectors[-arguments.queries :][: arguments.measured]
    print(f"{len(base)} vectors of {base.shape[1]} dimensions, {len(queries)} queries, "
          f"{arguments.threads} threads, M {LINKS}, ef_construction {BUILD_BREADTH}\n")
    truth = exact_hits(base, queries)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "vectors.npy")
        np.save(path, np.concatenate([base, queries]))
        rows = {}
        run_ours(arguments, path, 0, rows, base.nbytes)
        own = rows["ours, binary scan"].recall
        libraries = []
        for library_type in (Faiss, Hnswlib, Usearch):
            made = build_library(library_type, base, arguments.threads)
            if made is None:
                continue
            library, build = made
            print(f"{library.name} built in {build[1]:.1f} s", file=sys.stderr, flush=True)
            for wanted in dict.fromkeys((own, arguments.recall)):
                breadth, recall = breadth_for(library, queries, truth, wanted)
                name = f"{library.name}, ef {breadth}"
                rows[name] = Row(name, build, library.num_bytes(), recall, f"for {wanted:.4f}")
                libraries.append((library, breadth, rows[name]))
        for _ in range(arguments.rounds):
            run_ours(arguments, path, 0, rows, base.nbytes)
            run_ours(arguments, path, arguments.recall, rows, base.nbytes)
            for library, breadth, row in libraries:
                row.take(*time_library(library, breadth, queries, arguments.threads))
    print("| search | build, s of the processor | build, s | MB of memory | recall@10 | "
          "median us | queries/s, one thread | queries/s, all threads | note |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows.values():
        row.show()
    return 0


if __name__ == "__main__":
    sys.exit(main())
