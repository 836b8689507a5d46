// RowSet: a set of row numbers as a compressed (Roaring) bitmap.
//
// What a filter computes with: equal values of a column are one set, and AND, OR and NOT are the
// operations on sets. Long runs of rows take a few bytes, and an operation costs time by what the
// sets hold, not by how many rows there are.
//
// Thread safety: concurrent const calls only.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace intarsia::index {

class RowSet {
 public:
  // Row numbers are below this.
  static constexpr int64_t kRowsMax = int64_t{1} << 32;

  RowSet();
  // The rows [begin, end). REQUIRES of all ranges: 0 <= begin <= end <= kRowsMax.
  RowSet(int64_t begin, int64_t end);
  RowSet(const RowSet& other);
  RowSet(RowSet&&) noexcept = default;
  RowSet& operator=(const RowSet& other);
  RowSet& operator=(RowSet&&) noexcept = default;
  ~RowSet() = default;

  // Of a bitmap with one bit a row, the lowest first.
  static RowSet FromWords(std::span<const uint64_t> words);

  int64_t size() const;
  bool is_empty() const;
  bool Contains(int64_t row) const;
  bool operator==(const RowSet& other) const;
  int64_t memory_bytes() const;

  void AddRange(int64_t begin, int64_t end);
  void RemoveRange(int64_t begin, int64_t end);
  void And(const RowSet& other);
  void Or(const RowSet& other);
  void AndNot(const RowSet& other);
  // Chooses the smallest form for what the set holds now.
  void Compress();

  // Sets the bits of the set's rows. Rows from 64 * words.size() on are passed over.
  void OrInto(std::span<uint64_t> words) const;
  // The set as a bitmap with one bit a row [ceil(num_rows / 64)].
  std::vector<uint64_t> ToWords(int64_t num_rows) const;
  // The rows, ascending.
  std::vector<uint32_t> ToRows() const;

 private:
  struct Delete {
    void operator()(void* bitmap) const;
  };
  explicit RowSet(void* bitmap);

  // The library's bitmap, whose type is declared otherwise in each of its versions. Null only after
  // a move.
  std::unique_ptr<void, Delete> bitmap_;
};

}  // namespace intarsia::index
