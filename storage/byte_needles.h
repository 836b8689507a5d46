// ByteNeedles: finds pieces of many texts in any bytes, at any place, in one pass.
//
// A text is cut into pieces of 16 bytes, one behind the other. Whatever holds 31 bytes in a row of
// the text holds one of its pieces whole, so to look for the pieces is to look for all of it. A
// hash rolls over the searched bytes (Karp and Rabin, "Efficient randomized pattern-matching
// algorithms", 1987, section 3) and what has the hash of a piece is compared byte by byte.
//
// Pieces of fewer than four different bytes, such as zeros or dashes, stand everywhere and prove
// nothing; they are left out, and so is a text of fewer than 16 bytes.
//
// Thread safety: concurrent const calls only.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

namespace intarsia::storage {

class ByteNeedles {
 public:
  static constexpr int64_t kPieceBytes = 16;

  // Adds every `stride`-th piece of `text`; 1 takes them all. Returns how many were added.
  // REQUIRES: stride >= 1.
  int64_t Add(std::string_view text, int64_t stride);
  // Makes them ready to be looked for. Call it once, behind the last Add.
  void Build();

  // Calls `visit` with the place of each piece in `bytes` that is still looked for, until it
  // returns false.
  using Visit = std::function<bool(int64_t offset)>;
  void Find(std::string_view bytes, const Visit& visit) const;
  // Looks for the pieces that stand in `bytes` no longer.
  void Drop(std::string_view bytes);

  // Pieces that are looked for, and pieces that were dropped; equal ones count once.
  int64_t num_pieces() const { return num_pieces_; }
  int64_t num_dropped() const { return num_dropped_; }

 private:
  struct Piece {
    uint64_t hash = 0;
    std::array<char, kPieceBytes> bytes = {};
    bool is_dropped = false;
  };

  // Calls `visit` with the place and the index of each piece, dropped or not.
  template <typename VisitPiece>
  void ForEach(std::string_view bytes, const VisitPiece& visit) const;
  bool MayHold(uint64_t hash) const {
    const uint64_t bit = hash >> filter_shift_;
    return (filter_[bit / 64] >> (bit % 64) & 1) != 0;
  }

  std::vector<Piece> pieces_;     // by hash and bytes once built
  std::vector<uint64_t> filter_;  // a bit for each hash of a piece, by its highest bits
  int filter_shift_ = 58;
  int64_t num_pieces_ = 0;
  int64_t num_dropped_ = 0;
};

}  // namespace intarsia::storage
