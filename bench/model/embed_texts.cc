// embed_texts: the vectors of a file's lines, for measurements that need real embeddings.
//
// Reads one text a line in UTF-8 and writes a .npy file of float32 [lines, dimensions], a batch at
// a time, so that a few hundred thousand lines need little memory. The last `--queries` lines are
// embedded as queries, the others as documents. tools/embed_passages.py makes such lines.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/result.h"
#include "base/stopwatch.h"
#include "base/thread_pool.h"
#include "model/embedder.h"

namespace intarsia::model {
namespace {

// Texts embedded by one call.
constexpr int64_t kBatch = 512;
// What numpy.save pads its header to.
constexpr size_t kHeaderBytes = 128;

struct Arguments {
  std::string texts;
  std::string embedder = "models/all-MiniLM-L6-v2";
  std::string out;
  int64_t num_queries = 0;
  int num_threads = 0;
};

std::string NpyHeader(int64_t num_rows, int64_t dim) {
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" +
                       std::to_string(num_rows) + ", " + std::to_string(dim) + "), }";
  header.resize(kHeaderBytes - 11, ' ');
  header.push_back('\n');
  const auto length = static_cast<char>(header.size());
  return std::string("\x93NUMPY\x01\x00", 8) + length + '\0' + header;
}

Result<std::vector<std::string>> ReadLines(const std::string& path) {
  std::ifstream file(path);
  if (!file) return Status(StatusCode::kNotFound, "cannot read the texts: path=" + path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  if (lines.empty()) return Status(StatusCode::kInvalidArgument, "no texts: path=" + path);
  return lines;
}

Status Run(const Arguments& arguments) {
  INTARSIA_ASSIGN_OR_RETURN(const std::vector<std::string> lines, ReadLines(arguments.texts));
  ThreadPool pool(arguments.num_threads);
  INTARSIA_ASSIGN_OR_RETURN(const auto embedder,
                            Embedder::Load(arguments.embedder, {.pool = &pool}));
  const int64_t count = std::ssize(lines);
  const int64_t num_documents = std::max<int64_t>(0, count - arguments.num_queries);
  std::ofstream out(arguments.out, std::ios::binary);
  out << NpyHeader(count, embedder->dimension());
  std::vector<float> vectors(static_cast<size_t>(kBatch * embedder->dimension()));
  const Stopwatch stopwatch;
  for (int64_t begin = 0; begin < count;) {
    const bool is_query = begin >= num_documents;
    const int64_t end = std::min(begin + kBatch, is_query ? count : num_documents);
    const std::vector<std::string_view> texts(lines.begin() + begin, lines.begin() + end);
    INTARSIA_RETURN_IF_ERROR(embedder->Embed(texts,
                                             is_query ? TextRole::kQuery : TextRole::kDocument,
                                             vectors.data(), /*cancel=*/nullptr));
    out.write(reinterpret_cast<const char*>(vectors.data()),
              (end - begin) * embedder->dimension() * static_cast<int64_t>(sizeof(float)));
    if (!out) return Status(StatusCode::kIo, "cannot write the vectors: path=" + arguments.out);
    begin = end;
    std::fprintf(stderr, "\r%lld of %lld texts, %.0f a second ", static_cast<long long>(begin),
                 static_cast<long long>(count),
                 1e3 * static_cast<double>(begin) / stopwatch.milliseconds());
  }
  std::fprintf(stderr, "\n");
  out.close();
  if (!out) return Status(StatusCode::kIo, "cannot write the vectors: path=" + arguments.out);
  return Status::Ok();
}

}  // namespace
}  // namespace intarsia::model

int main(int argc, char** argv) {
  intarsia::model::Arguments arguments;
  CLI::App app("Vectors of the lines of a file");
  app.add_option("--texts", arguments.texts, "one text a line, UTF-8")->required();
  app.add_option("--out", arguments.out, "the .npy file to write")->required();
  app.add_option("--embedder", arguments.embedder, "folder of the model");
  app.add_option("--queries", arguments.num_queries, "lines at the end that are queries")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  app.add_option("--threads", arguments.num_threads, "0: all")->check(CLI::Range(0, 1'024));
  CLI11_PARSE(app, argc, argv);
  const intarsia::Status status = intarsia::model::Run(arguments);
  if (status.ok()) return 0;
  std::fprintf(stderr, "embed_texts: %s\n", status.ToString().c_str());
  return 1;
}
