// DirectoryFormat: the file FORMAT, which says that a directory is a database and of which version.
//
// It is written last when a database is created, so a directory with it is complete.
//
// Thread safety: all functions may be called concurrently.
// Format: docs/formats/directory.md
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/result.h"

namespace intarsia::storage {

inline constexpr uint32_t kFormatVersion = 1;

struct DirectoryFormat {
  uint32_t version = kFormatVersion;
  std::array<uint8_t, 16> uuid{};

  bool operator==(const DirectoryFormat&) const = default;
  std::string_view uuid_view() const {
    return {reinterpret_cast<const char*>(uuid.data()), uuid.size()};
  }
};

// A format of this version with a random uuid.
DirectoryFormat NewDirectoryFormat();

std::string EncodeDirectoryFormat(const DirectoryFormat& format);

// Errors: kCorruption; kUnsupported if a newer program wrote it. `path` is for the message.
Result<DirectoryFormat> DecodeDirectoryFormat(const std::string& path, std::string_view bytes);

enum class DirectoryState : uint8_t {
  kAbsent,      // No such directory, or an empty one.
  kIncomplete,  // A creation that was interrupted; it can be resumed.
  kComplete,    // FORMAT is there.
};

// What `path` is. Errors: kInvalidArgument if it is a file or holds something else than a
// database, kIo.
Result<DirectoryState> InspectDirectory(FileSystem* file_system, const std::string& path);

}  // namespace intarsia::storage
