// BinaryRows: the codes of binary_scan.h as a device scans them, a row each.
//
// A row is what several lanes of a warp read side by side, 16 bytes each, so that the codes that a
// filter leaves are read alone. Planes lie one behind the other in a row, each filled up with zeros
// to pieces of 16 bytes; rows are filled up with zeros to tiles of 32. A tile has bounds of its
// factors: a scan reads the factors of a row only if, by the bounds of its tile, the row could
// matter, so that they cost 16 bytes a tile and not 12 a row.
//
// Thread safety: all functions may be called concurrently on distinct outputs.
// Lifetime: a BinaryRows is a view; its memory must outlast the work enqueued on it.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/binary_scan.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

inline constexpr int64_t kBinaryTileRows = 32;
inline constexpr int64_t kBinaryPieceWords = 2;  // of 64 bits
inline constexpr int64_t kBinaryRowsMax = int64_t{1} << 30;

// Of the rows of a tile; what is not a number counts for nothing. No number at all leaves the
// infinity that never matters.
struct alignas(16) BinaryTileBounds {
  float scale_min = 0.0F;
  float scale_max = 0.0F;
  float offset_max = 0.0F;
  float error_max = 0.0F;
};

struct BinaryRows {
  const uint32_t* codes = nullptr;           // [num_tiles, 32, row_words], 16-byte aligned
  const float* scales = nullptr;             // [num_rows]
  const float* offsets = nullptr;            // [num_rows]
  const float* errors = nullptr;             // [num_rows]
  const BinaryTileBounds* bounds = nullptr;  // [num_tiles]
  int64_t num_rows = 0;                      // at most kBinaryRowsMax
  int64_t num_words = 0;                     // of 64 bits a plane, in [1, 1024]
  int64_t num_planes = 1;                    // 1 or 2

  int64_t num_tiles() const { return (num_rows + kBinaryTileRows - 1) / kBinaryTileRows; }
  int64_t plane_pieces() const { return (num_words + kBinaryPieceWords - 1) / kBinaryPieceWords; }
  int64_t row_words() const { return num_planes * plane_pieces() * 4; }  // of 32 bits
  int64_t code_bytes() const { return num_tiles() * kBinaryTileRows * row_words() * 4; }
};

// kInvalidArgument for a null pointer or a size out of range.
Status CheckBinaryRows(const BinaryRows& rows);

struct BinaryRowsParams : BinaryCodeBlocks {
  int64_t num_rows = 0;       // in [0, 8 * num_blocks]; factors of later rows are not looked at
  uint32_t* codes = nullptr;  // as in BinaryRows
  BinaryTileBounds* bounds = nullptr;

  // What this makes, with the factors of the blocks, which serve both.
  BinaryRows rows() const;
};

// Makes rows of blocks. Errors: kInvalidArgument for a null pointer or a size out of range.
Status BinaryRowsReference(const BinaryRowsParams& params);
Status BinaryRowsCuda(const BinaryRowsParams& params, Stream stream);
Status CheckBinaryRowsParams(const BinaryRowsParams& params);

}  // namespace intarsia::kernels
