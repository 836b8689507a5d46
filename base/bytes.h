// ByteReader, ByteWriter: little-endian integers, floats and length-prefixed strings in a span.
//
// Every format of ours is read and written through these two, so that bounds are checked in one
// place. A reader never reads outside its span: the first short read makes it fail for good, and
// the caller looks once, at the end, with status().
//
// Thread safety: owned by one thread.
// Lifetime: the bytes given to a ByteReader must outlive it and every view that it returns.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/status.h"

namespace intarsia {

static_assert(std::endian::native == std::endian::little, "our formats are written as they lie");

class ByteReader {
 public:
  // `name` says in errors what is being read, for example the path of a file.
  explicit ByteReader(std::string_view bytes, std::string_view name = "bytes")
      : bytes_(bytes), name_(name) {}

  // The next integer or float; 0 once the reader has failed.
  template <typename T>
  T Read() {
    static_assert(std::is_arithmetic_v<T>, "only integers and floats have a byte order");
    T value{};
    if (const std::string_view raw = ReadBytes(sizeof(T)); !raw.empty()) {
      std::memcpy(&value, raw.data(), sizeof(T));
    }
    return value;
  }

  // The next `num_bytes` bytes; empty once the reader has failed. A negative count fails.
  std::string_view ReadBytes(int64_t num_bytes) {
    if (failed_ || num_bytes < 0 || num_bytes > remaining()) {
      failed_ = true;
      return {};
    }
    const std::string_view view =
        bytes_.substr(static_cast<size_t>(offset_), static_cast<size_t>(num_bytes));
    offset_ += num_bytes;
    return view;
  }

  // A string written by ByteWriter::WriteString: a u64 length, then the bytes.
  std::string_view ReadString() {
    const auto length = Read<uint64_t>();
    if (length > static_cast<uint64_t>(remaining())) failed_ = true;
    return ReadBytes(static_cast<int64_t>(failed_ ? 0 : length));
  }

  int64_t offset() const { return offset_; }
  int64_t remaining() const { return static_cast<int64_t>(bytes_.size()) - offset_; }
  bool failed() const { return failed_; }

  // OK, or kCorruption with the name and the offset at which the bytes ended too early.
  Status status() const {
    if (!failed_) return Status::Ok();
    return Status(StatusCode::kCorruption,
                  std::string(name_) + " ends too early: offset=" + std::to_string(offset_) +
                      " size=" + std::to_string(bytes_.size()));
  }

  // The same once all should have been read: kCorruption too if bytes are left over.
  Status Finish() const {
    if (failed_ || remaining() == 0) return status();
    return Status(StatusCode::kCorruption,
                  std::string(name_) + " has bytes left over: offset=" + std::to_string(offset_) +
                      " size=" + std::to_string(bytes_.size()));
  }

 private:
  std::string_view bytes_;
  std::string_view name_;
  int64_t offset_ = 0;
  bool failed_ = false;
};

class ByteWriter {
 public:
  template <typename T>
  void Write(T value) {
    static_assert(std::is_arithmetic_v<T>, "only integers and floats have a byte order");
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    bytes_.append(raw, sizeof(T));
  }
  void WriteBytes(std::string_view bytes) { bytes_.append(bytes); }
  void WriteString(std::string_view text) {
    Write(static_cast<uint64_t>(text.size()));
    WriteBytes(text);
  }

  int64_t size() const { return static_cast<int64_t>(bytes_.size()); }
  const std::string& bytes() const& { return bytes_; }
  std::string&& TakeBytes() && { return std::move(bytes_); }

 private:
  std::string bytes_;
};

}  // namespace intarsia
