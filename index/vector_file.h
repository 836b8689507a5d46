// VectorFile: consecutive vectors of a collection with their codes, in a file that is mapped.
//
// Exact comparison reads a few of many vectors, so they need not lie in our memory: in a mapped
// file the kernel keeps what is used. Codes are read whole by every search and are copied out. The
// file is a cache of what the database holds, and nothing in it is believed. Opening verifies the
// header, and everything but the vectors against one checksum; a FlatIndex compares each vector
// with its own checksum when it first reads it. Whoever opens a file compares the identity with
// what he looks for, and the ids with the chunks that there are.
//
// Thread safety: concurrent const calls only.
// Format: docs/formats/vector_file.md
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/file.h"
#include "base/result.h"
#include "index/binary_index.h"
#include "index/flat_index.h"

namespace intarsia::index {

// Whose vectors they are.
struct VectorFileIdentity {
  std::array<uint8_t, 16> database{};
  uint64_t collection = 0;
  uint64_t model = 0;
  uint64_t generation = 0;  // of the collection that the vectors were read from

  bool operator==(const VectorFileIdentity&) const = default;
};

struct VectorFileHeader {
  VectorFileIdentity identity;
  int64_t first_row = 0;
  int64_t num_rows = 0;  // a multiple of 8
  int64_t dim = 0;
  Metric metric = Metric::kCosine;
  int32_t bits = 0;
  uint64_t seed = 0;
  int64_t num_fitted = 0;
  Checksum body;  // of what lies between the header and the vectors
};

struct VectorFileParams {
  VectorFileIdentity identity;
  const FlatIndex* rows = nullptr;
  const BinaryIndex* codes = nullptr;  // of all `rows`
  int64_t begin = 0;                   // the slots to write, both multiples of 8
  int64_t end = 0;
  std::span<const uint64_t> contents = {};  // [end - begin], what the ids stood for
};

// Writes a file in the place of `path`: under another name, synced, then renamed. After an error
// nothing is left of it.
// Errors: kInvalidArgument if the slots do not exist or the ids do not ascend; kCorruption if
// vectors of `rows` are damaged; kResourceExhausted, kIo; kUnsupported if files cannot be renamed.
Status WriteVectorFile(FileSystem* file_system, const std::string& path,
                       const VectorFileParams& params);

// The name that an unfinished file has.
std::string UnfinishedVectorFile(const std::string& path);

// Reads the header alone. Errors: kCorruption, kUnsupported for another version, and those of
// FileSystem.
Result<VectorFileHeader> ReadVectorFileHeader(FileSystem* file_system, const std::string& path);

class VectorFile {
 public:
  // Errors: as ReadVectorFileHeader.
  static Result<std::shared_ptr<const VectorFile>> Open(FileSystem* file_system,
                                                        const std::string& path);

  const std::string& path() const { return path_; }
  const VectorFileHeader& header() const { return header_; }
  int64_t end_row() const { return header_.first_row + header_.num_rows; }
  int64_t num_bytes() const { return static_cast<int64_t>(file_->bytes().size()); }

  std::span<const uint64_t> ids() const { return ids_; }            // [num_rows], ascending
  std::span<const uint64_t> contents() const { return contents_; }  // [num_rows]
  BinaryCodeSpace space() const;
  kernels::BinaryCodeBlocks codes() const { return codes_; }
  // The vectors, not verified. `file` is kept by what is returned.
  static ForeignRows RowsOf(const std::shared_ptr<const VectorFile>& file);

  // Reads and verifies all vectors. Errors: kCorruption, with the first row that is damaged.
  Status Verify() const;

 private:
  VectorFile() = default;

  std::string path_;
  VectorFileHeader header_;
  std::unique_ptr<MappedFile> file_;
  // Within the file.
  std::span<const float> center_;
  std::span<const uint64_t> ids_;
  std::span<const uint64_t> contents_;
  std::span<const uint64_t> checksums_;
  kernels::BinaryCodeBlocks codes_;
  std::span<const float> vectors_;
};

}  // namespace intarsia::index
