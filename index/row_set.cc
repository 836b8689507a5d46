#include "index/row_set.h"

#include <algorithm>
#include <array>
#include <bit>

#include <roaring/roaring.h>

#include "base/check.h"

namespace intarsia::index {
namespace {

constexpr int64_t kWordBits = 64;

void CheckRange(int64_t begin, int64_t end) {
  INTARSIA_CHECK(0 <= begin && begin <= end && end <= RowSet::kRowsMax);
}

roaring_bitmap_t* Bitmap(void* bitmap) { return static_cast<roaring_bitmap_t*>(bitmap); }

// Sets the bits [begin, end) of `words`.
void SetBits(int64_t begin, int64_t end, std::span<uint64_t> words) {
  end = std::min(end, std::ssize(words) * kWordBits);
  while (begin < end) {
    const int64_t bit = begin % kWordBits;
    const int64_t count = std::min(kWordBits - bit, end - begin);
    const uint64_t ones = count == kWordBits ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
    words[static_cast<size_t>(begin / kWordBits)] |= ones << bit;
    begin += count;
  }
}

}  // namespace

void RowSet::Delete::operator()(void* bitmap) const { roaring_bitmap_free(Bitmap(bitmap)); }

// The library answers with null when there is no memory, like a failing new.
RowSet::RowSet(void* bitmap) : bitmap_(bitmap) { INTARSIA_CHECK(bitmap_ != nullptr); }

RowSet::RowSet() : RowSet(roaring_bitmap_create()) {}
RowSet::RowSet(int64_t begin, int64_t end) : RowSet() { AddRange(begin, end); }
RowSet::RowSet(const RowSet& other) : RowSet(roaring_bitmap_copy(Bitmap(other.bitmap_.get()))) {}
RowSet& RowSet::operator=(const RowSet& other) {
  if (this != &other) *this = RowSet(other);
  return *this;
}

RowSet RowSet::FromWords(std::span<const uint64_t> words) {
  INTARSIA_CHECK(std::ssize(words) * kWordBits <= kRowsMax);
  RowSet set;
  constexpr size_t kBuffered = 1'024;
  std::array<uint32_t, kBuffered + kWordBits> rows{};
  size_t count = 0;
  for (size_t word = 0; word < words.size(); ++word) {
    const auto first = static_cast<uint32_t>(word * kWordBits);
    if (words[word] == ~uint64_t{0}) {
      set.AddRange(first, int64_t{first} + kWordBits);
      continue;
    }
    for (uint64_t bits = words[word]; bits != 0; bits &= bits - 1) {
      rows[count++] = first + static_cast<uint32_t>(std::countr_zero(bits));
    }
    if (count >= kBuffered) {
      roaring_bitmap_add_many(Bitmap(set.bitmap_.get()), count, rows.data());
      count = 0;
    }
  }
  roaring_bitmap_add_many(Bitmap(set.bitmap_.get()), count, rows.data());
  return set;
}

int64_t RowSet::size() const {
  return static_cast<int64_t>(roaring_bitmap_get_cardinality(Bitmap(bitmap_.get())));
}
bool RowSet::is_empty() const { return roaring_bitmap_is_empty(Bitmap(bitmap_.get())); }
bool RowSet::Contains(int64_t row) const {
  return row >= 0 && row < kRowsMax &&
         roaring_bitmap_contains(Bitmap(bitmap_.get()), static_cast<uint32_t>(row));
}
bool RowSet::operator==(const RowSet& other) const {
  return roaring_bitmap_equals(Bitmap(bitmap_.get()), Bitmap(other.bitmap_.get()));
}
int64_t RowSet::memory_bytes() const {
  return static_cast<int64_t>(roaring_bitmap_size_in_bytes(Bitmap(bitmap_.get())));
}

void RowSet::AddRange(int64_t begin, int64_t end) {
  CheckRange(begin, end);
  roaring_bitmap_add_range(Bitmap(bitmap_.get()), static_cast<uint64_t>(begin),
                           static_cast<uint64_t>(end));
}
void RowSet::RemoveRange(int64_t begin, int64_t end) {
  CheckRange(begin, end);
  roaring_bitmap_remove_range(Bitmap(bitmap_.get()), static_cast<uint64_t>(begin),
                              static_cast<uint64_t>(end));
}
void RowSet::And(const RowSet& other) {
  roaring_bitmap_and_inplace(Bitmap(bitmap_.get()), Bitmap(other.bitmap_.get()));
}
void RowSet::Or(const RowSet& other) {
  roaring_bitmap_or_inplace(Bitmap(bitmap_.get()), Bitmap(other.bitmap_.get()));
}
void RowSet::AndNot(const RowSet& other) {
  roaring_bitmap_andnot_inplace(Bitmap(bitmap_.get()), Bitmap(other.bitmap_.get()));
}
void RowSet::Compress() { roaring_bitmap_run_optimize(Bitmap(bitmap_.get())); }

void RowSet::OrInto(std::span<uint64_t> words) const {
  const int64_t num_rows = std::ssize(words) * kWordBits;
  roaring_uint32_iterator_t rows;
  roaring_init_iterator(Bitmap(bitmap_.get()), &rows);
  std::array<uint32_t, 1'024> buffer{};
  int64_t begin = 0;  // The run of rows seen last.
  int64_t end = 0;
  while (true) {
    const uint32_t count = roaring_read_uint32_iterator(&rows, buffer.data(), buffer.size());
    for (uint32_t i = 0; i < count; ++i) {
      const int64_t row = buffer[i];
      if (row == end) {
        ++end;
        continue;
      }
      SetBits(begin, end, words);
      begin = row;
      end = row + 1;
    }
    if (count < buffer.size() || begin >= num_rows) break;
  }
  SetBits(begin, end, words);
}

std::vector<uint64_t> RowSet::ToWords(int64_t num_rows) const {
  std::vector<uint64_t> words(static_cast<size_t>((num_rows + kWordBits - 1) / kWordBits), 0);
  OrInto(words);
  return words;
}

std::vector<uint32_t> RowSet::ToRows() const {
  std::vector<uint32_t> rows(static_cast<size_t>(size()));
  roaring_bitmap_to_uint32_array(Bitmap(bitmap_.get()), rows.data());
  return rows;
}

}  // namespace intarsia::index
