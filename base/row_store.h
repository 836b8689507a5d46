// RowReader, RowWriter: rows of bytes by key, for code that does not know where they lie.
//
// A search structure keeps its rows beside those of the documents that it was made from, so that
// both change in one commit; it sees no more of the database than this.
//
// Thread safety: const calls of a RowReader may be concurrent; a RowIterator and a RowWriter are
// owned by one thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace intarsia {

// Walks rows by ascending key, compared as bytes.
class RowIterator {
 public:
  virtual ~RowIterator() = default;

  virtual bool Valid() const = 0;
  // To the first row whose key is `key` or above.
  virtual void Seek(std::string_view key) = 0;
  virtual void Next() = 0;
  virtual std::string_view key() const = 0;  // Valid until the next move.
  // The row's bytes, valid until the next move. Errors: kCorruption if they are damaged.
  virtual Result<std::string_view> Body() const = 0;
  // Why the walk ended early, or OK.
  virtual Status status() const = 0;
};

class RowReader {
 public:
  virtual ~RowReader() = default;

  // Errors: kNotFound, kCorruption, kIo.
  virtual Result<std::string> Get(std::string_view key) const = 0;
  // Over the rows in [begin, end), at the first of them. This reader must outlive it.
  virtual std::unique_ptr<RowIterator> NewIterator(std::string_view begin,
                                                   std::string_view end) const = 0;
};

class RowWriter {
 public:
  virtual ~RowWriter() = default;

  virtual void Put(std::string_view key, std::string_view body) = 0;
  virtual void Delete(std::string_view key) = 0;  // No error if absent.
};

}  // namespace intarsia
