#!/usr/bin/env python3
"""Compares searches of this project with the HNSW of faiss-cpu, hnswlib and usearch.

All of them search the same embeddings with the same queries, one after the other on the same
machine. A library's breadth of search is raised until its recall@10 reaches that of the binary scan
(or --recall), so that times are compared at equal recall. What is missing of the libraries is
reported and left out.

Usage: tools/compare_vector_search.py EMBEDDINGS.npy
       [--bench build/cpu/bin/index_vector_search_bench] [--queries 200] [--threads N] [--graph]
Needs: pip install numpy faiss-cpu hnswlib usearch
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


def measure(library, queries, truth, wanted, threads):
    """The lowest breadth that reaches the wanted recall, or the highest there is."""
    for breadth in BREADTHS:
        library.set_breadth(breadth)
        recall = recall_of(library.search(queries, 1), truth)
        if recall >= wanted:
            break
    times = []
    for query in queries:
        start = time.perf_counter()
        library.search(query[None, :], 1)
        times.append(time.perf_counter() - start)
    start = time.perf_counter()
    library.search(queries, threads)
    rate = len(queries) / (time.perf_counter() - start)
    return breadth, recall, 1e6 * statistics.median(times), rate


def row(name, build_s, num_bytes, recall, median_us, rate, note):
    print(f"| {name} | {build_s:.2f} | {num_bytes / 1e6:.1f} | {recall:.4f} | {median_us:.0f} | "
          f"{rate:.0f} | {note} |", flush=True)


def run_ours(arguments, path, count, dim):
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out.json")
        command = [arguments.bench, "--vectors", path, "--queries", str(arguments.queries),
                   "--threads", str(arguments.threads), "--json", out]
        subprocess.run(command + (["--graph"] if arguments.graph else []), check=True,
                       stdout=subprocess.DEVNULL)
        with open(out, encoding="utf-8") as file:
            report = json.load(file)
    rows = {search["way"]: search for search in report["searches"] if search["share"] == 1.0}
    vectors = count * dim * 4
    binary = report["binary"]
    extra = {"flat scan": (0.0, 0, "exact"),
             "binary scan": ((binary["build_ms"] + binary["calibrate_ms"]) / 1e3, binary["bytes"],
                             f"{binary['bits']} bits; the scan reads {binary['bytes'] / 1e6:.1f} "
                             "MB; build with calibration"),
             "graph": (report.get("graph", {}).get("build_ms", 0.0) / 1e3,
                       report.get("graph", {}).get("bytes", 0), "FAISS HNSW over our rows")}
    for way, search in rows.items():
        build_s, num_bytes, note = extra[way]
        row("ours, " + way, build_s, vectors + num_bytes, search["recall"], search["median_us"],
            search["queries_per_second"], note)
    return rows["binary scan"]["recall"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("embeddings")
    parser.add_argument("--bench", default="build/cpu/bin/index_vector_search_bench")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--recall", type=float, help="wanted of the libraries")
    parser.add_argument("--graph", action="store_true", help="also our graph, which takes long")
    arguments = parser.parse_args()
    vectors = np.load(arguments.embeddings).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    base, queries = vectors[: -arguments.queries], vectors[-arguments.queries :]
    print(f"{len(base)} vectors of {base.shape[1]} dimensions, {len(queries)} queries, "
          f"{arguments.threads} threads, M {LINKS}, ef_construction {BUILD_BREADTH}\n")
    print("| search | build s | MB with vectors | recall@10 | median us | queries/s, all threads | "
          "note |")
    print("|---|---|---|---|---|---|---|")
    wanted = run_ours(arguments, arguments.embeddings, len(base), base.shape[1])
    truth = exact_hits(base, queries)
    for library_type in (Faiss, Hnswlib, Usearch):
        start = time.perf_counter()
        try:
            library = library_type(base, arguments.threads)
        except ImportError as error:
            print(f"{library_type.name}: not installed: {error}", file=sys.stderr)
            continue
        build_s = time.perf_counter() - start
        breadth, recall, median_us, rate = measure(library, queries, truth,
                                                   arguments.recall or wanted, arguments.threads)
        row(library.name, build_s, library.num_bytes(), recall, median_us, rate, f"ef {breadth}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
