#include "client/shell/script_file.h"

#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <istream>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/file.h"

namespace intarsia::client {
namespace {

constexpr int64_t kBytesMax = int64_t{1} << 30;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// What has no size that could be asked for.
Result<std::string> ReadStream(std::istream* stream, const std::string& path) {
  std::string text;
  std::array<char, 1 << 16> buffer{};
  while (stream->read(buffer.data(), std::ssize(buffer)), stream->gcount() > 0) {
    text.append(buffer.data(), static_cast<size_t>(stream->gcount()));
    if (std::ssize(text) > kBytesMax) {
      return Status(StatusCode::kInvalidArgument, "script is larger than the limit: " + path +
                                                      " limit=" + std::to_string(kBytesMax));
    }
  }
  if (stream->bad()) return Status(StatusCode::kIo, "cannot read " + path);
  return text;
}

Result<std::string> ReadBytes(const std::string& path) {
  if (path == "-") return ReadStream(&std::cin, "standard input");
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (!std::filesystem::is_fifo(status) && !std::filesystem::is_character_file(status)) {
    return FileSystem::Local()->ReadAll(path, kBytesMax);
  }
  std::ifstream stream(path, std::ios::binary);
  if (!stream.is_open()) return Status(StatusCode::kIo, "cannot open " + path);
  return ReadStream(&stream, path);
}

}  // namespace

Result<std::string> ReadScriptFile(const std::string& path) {
  INTARSIA_ASSIGN_OR_RETURN(std::string text, ReadBytes(path));
  if (text.starts_with(kByteOrderMark)) text.erase(0, kByteOrderMark.size());
  return text;
}

}  // namespace intarsia::client
