// RestoreCurrent: RocksDB's file CURRENT made anew, which says where its list of files lies.
//
// Thread safety: may be called concurrently for distinct directories.
#pragma once

#include <string>

#include "base/file.h"
#include "base/status.h"

namespace intarsia::storage {

// If CURRENT in the RocksDB directory `path` names no file and there is one list that it can mean,
// writes it anew. With several lists, as a crash while one replaces another leaves them, it is not
// known which is the right one: then nothing is done, and RocksDB refuses. Errors: kIo.
// REQUIRES: nobody has the directory open.
Status RestoreCurrent(FileSystem* file_system, const std::string& path);

}  // namespace intarsia::storage
