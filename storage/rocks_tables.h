// CheckTableProperties: a look at RocksDB's table files before RocksDB opens them.
//
// RocksDB reads the properties of a table before it compares their checksum. One bit in them, that
// of an index which such a block never has, makes a library with assertions end the process.
//
// Thread safety: may be called concurrently.
#pragma once

#include <string>

#include "base/file.h"
#include "base/status.h"

namespace intarsia::storage {

// Errors: kCorruption with the name of a table in the RocksDB directory `path` that has this bit.
// All other damage is left to RocksDB, and so are files that cannot be read.
Status CheckTableProperties(FileSystem* file_system, const std::string& path);

}  // namespace intarsia::storage
