#include "storage/byte_needles.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>
#include <tuple>

#include "base/check.h"

namespace intarsia::storage {
namespace {

constexpr int64_t kPieceBytes = ByteNeedles::kPieceBytes;
// Odd, so that no byte's weight vanishes modulo 2^64.
constexpr uint64_t kBase = 0x9e3779b97f4a7c15;
constexpr size_t kDifferentBytesMin = 4;

constexpr uint64_t PowerOfBase(int64_t exponent) {
  uint64_t power = 1;
  for (int64_t i = 0; i < exponent; ++i) power *= kBase;
  return power;
}

uint64_t Rolled(uint64_t hash, char byte) { return hash * kBase + static_cast<uint8_t>(byte) + 1; }

uint64_t HashOf(const char* piece) {
  uint64_t hash = 0;
  for (int64_t i = 0; i < kPieceBytes; ++i) hash = Rolled(hash, piece[i]);
  return hash;
}

}  // namespace

int64_t ByteNeedles::Add(std::string_view text, int64_t stride) {
  INTARSIA_CHECK(stride >= 1);
  int64_t num_added = 0;
  const auto size = static_cast<int64_t>(text.size());
  for (int64_t at = 0; at + kPieceBytes <= size; at += stride * kPieceBytes) {
    const std::string_view bytes = text.substr(static_cast<size_t>(at), kPieceBytes);
    if (std::set<char>(bytes.begin(), bytes.end()).size() < kDifferentBytesMin) continue;
    Piece& piece = pieces_.emplace_back();
    piece.hash = HashOf(bytes.data());
    std::memcpy(piece.bytes.data(), bytes.data(), kPieceBytes);
    ++num_added;
  }
  return num_added;
}

void ByteNeedles::Build() {
  const auto key = [](const Piece& piece) { return std::tie(piece.hash, piece.bytes); };
  std::ranges::sort(pieces_, {}, key);
  const auto equal = [&](const Piece& a, const Piece& b) { return key(a) == key(b); };
  pieces_.erase(std::unique(pieces_.begin(), pieces_.end(), equal), pieces_.end());
  num_pieces_ = std::ssize(pieces_);
  // Sixteen bits for each piece: few places are looked at for nothing.
  const int num_bits = std::max(6, static_cast<int>(std::bit_width(pieces_.size() * 16)));
  filter_shift_ = 64 - num_bits;
  filter_.assign((size_t{1} << num_bits) / 64, 0);
  for (const Piece& piece : pieces_) {
    const uint64_t bit = piece.hash >> filter_shift_;
    filter_[bit / 64] |= uint64_t{1} << (bit % 64);
  }
}

template <typename VisitPiece>
void ByteNeedles::ForEach(std::string_view bytes, const VisitPiece& visit) const {
  static constexpr uint64_t kOldest = PowerOfBase(kPieceBytes - 1);
  const auto size = static_cast<int64_t>(bytes.size());
  if (size < kPieceBytes || pieces_.empty()) return;
  uint64_t hash = HashOf(bytes.data());
  for (int64_t at = 0;; ++at) {
    if (MayHold(hash)) {
      const char* const here = bytes.data() + at;
      auto found = std::ranges::lower_bound(pieces_, hash, {}, &Piece::hash);
      for (; found != pieces_.end() && found->hash == hash; ++found) {
        if (std::memcmp(found->bytes.data(), here, kPieceBytes) != 0) continue;
        if (!visit(at, static_cast<size_t>(found - pieces_.begin()))) return;
      }
    }
    if (at + kPieceBytes >= size) return;
    hash -=
        (static_cast<uint64_t>(static_cast<uint8_t>(bytes[static_cast<size_t>(at)])) + 1) * kOldest;
    hash = Rolled(hash, bytes[static_cast<size_t>(at + kPieceBytes)]);
  }
}

void ByteNeedles::Find(std::string_view bytes, const Visit& visit) const {
  ForEach(bytes,
          [&](int64_t offset, size_t index) { return pieces_[index].is_dropped || visit(offset); });
}

void ByteNeedles::Drop(std::string_view bytes) {
  ForEach(bytes, [&](int64_t, size_t index) {
    Piece& piece = pieces_[index];
    num_dropped_ += piece.is_dropped ? 0 : 1;
    num_pieces_ -= piece.is_dropped ? 0 : 1;
    piece.is_dropped = true;
    return true;
  });
}

}  // namespace intarsia::storage
