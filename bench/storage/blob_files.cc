#include "bench/storage/blob_files.h"

#include <utility>

#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>

namespace intarsia::bench {
namespace {

Status FromRocks(const rocksdb::Status& status, const std::string& what) {
  return status.ok() ? Status::Ok() : Status(StatusCode::kIo, what + ": " + status.ToString());
}

}  // namespace

struct BlobFiles::State {
  std::unique_ptr<rocksdb::DB> db;
};

BlobFiles::BlobFiles(std::unique_ptr<State> state) : state_(std::move(state)) {}
BlobFiles::~BlobFiles() = default;

Result<std::unique_ptr<BlobFiles>> BlobFiles::Create(const std::string& path) {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.enable_blob_files = true;
  options.min_blob_size = 1;
  options.blob_file_size = uint64_t{256} << 20;
  options.blob_compression_type = rocksdb::kNoCompression;
  options.write_buffer_size = size_t{64} << 20;
  options.max_background_jobs = 2;
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status = rocksdb::DB::Open(options, path, &db);
  auto state = std::make_unique<State>();
  state->db.reset(db);
  INTARSIA_RETURN_IF_ERROR(FromRocks(status, "open " + path));
  return std::unique_ptr<BlobFiles>(new BlobFiles(std::move(state)));
}

Status BlobFiles::Put(std::string_view key, std::string_view value) {
  rocksdb::WriteOptions options;
  options.disableWAL = true;
  return FromRocks(state_->db->Put(options, rocksdb::Slice(key.data(), key.size()),
                                   rocksdb::Slice(value.data(), value.size())),
                   "put a blob");
}

Status BlobFiles::Flush() { return FromRocks(state_->db->Flush({}), "flush blobs"); }

Result<int64_t> BlobFiles::Read(std::string_view key) {
  rocksdb::PinnableSlice value;
  INTARSIA_RETURN_IF_ERROR(
      FromRocks(state_->db->Get({}, state_->db->DefaultColumnFamily(),
                                rocksdb::Slice(key.data(), key.size()), &value),
                "get a blob"));
  return static_cast<int64_t>(value.size());
}

}  // namespace intarsia::bench
