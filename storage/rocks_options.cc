#include "storage/rocks_options.h"

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <string>

#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>

#include "base/log.h"

namespace intarsia::storage {
namespace {

class ErrorLog : public rocksdb::Logger {
 public:
  ErrorLog() : rocksdb::Logger(rocksdb::InfoLogLevel::ERROR_LEVEL) {}
  using rocksdb::Logger::Logv;
  void Logv(const rocksdb::InfoLogLevel level, const char* format, va_list arguments) override {
    if (level < rocksdb::InfoLogLevel::ERROR_LEVEL) return;
    if (level == rocksdb::InfoLogLevel::HEADER_LEVEL) return;
    Logv(format, arguments);
  }
  void Logv(const char* format, va_list arguments) override {
    char line[1024];
    std::vsnprintf(line, sizeof(line), format, arguments);
    std::string text = std::string("rocksdb: ") + line;
    while (text.ends_with('\n')) text.pop_back();
    Log(LogLevel::kWarning, text);
  }
};

}  // namespace

std::shared_ptr<rocksdb::Logger> MakeErrorLog() { return std::make_shared<ErrorLog>(); }

rocksdb::ColumnFamilyOptions FamilyOptionsOf(Family family,
                                             const std::shared_ptr<rocksdb::Cache>& cache) {
  rocksdb::ColumnFamilyOptions options;
  options.write_buffer_size = size_t{16} << 20;
  // Floats do not compress; text does, and is read once per answer.
  options.compression =
      family == Family::kVectors ? rocksdb::kNoCompression : rocksdb::kLZ4Compression;
  if (family == Family::kText) options.bottommost_compression = rocksdb::kZSTD;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = cache;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.format_version = 5;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

rocksdb::DBOptions DatabaseOptionsOf(const RocksOptions& options) {
  rocksdb::DBOptions result;
  result.create_if_missing = options.mode == RocksOptions::Mode::kCreate;
  result.create_missing_column_families = options.mode != RocksOptions::Mode::kReadOnly;
  result.wal_recovery_mode = options.wal_recovery == WalRecovery::kStrict
                                 ? rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords
                                 : rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  // A reader that does not verify them would have to forget them, which it may not, and RocksDB
  // ends the process over that.
  result.track_and_verify_wals_in_manifest =
      options.wal_recovery == WalRecovery::kStrict || options.mode == RocksOptions::Mode::kReadOnly;
  result.info_log = MakeErrorLog();
  // A database has a handful of table files; sixteen threads per family cost more than they open.
  result.max_file_opening_threads = 1;
  result.max_total_wal_size = uint64_t{128} << 20;
  result.bytes_per_sync = uint64_t{1} << 20;
  return result;
}

}  // namespace intarsia::storage
