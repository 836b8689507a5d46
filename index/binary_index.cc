#include "index/binary_index.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "base/check.h"
#include "kernels/binary_scan.h"
#include "kernels/hadamard_rotate.h"

namespace intarsia::index {
namespace {

constexpr int64_t kRounds = 4;
constexpr int64_t kBlock = kernels::kBinaryBlockCodes;
constexpr int64_t kTwoBitDimMax = 512;
// Vectors encoded by one thread at a time.
constexpr int64_t kEncodeRows = 512;
// Where a Gaussian coordinate of standard deviation 1 changes from magnitude 1 to 3 so that the
// squared error of four evenly spaced levels is least.
constexpr float kUpperLevelFrom = 0.9957F;
// 1 - f^2 for a Gaussian vector u and its code x, f their cosine.
constexpr double kOneBitLoss = 0.363;
constexpr double kTwoBitLoss = 0.119;
// By how much the square of an estimate's error exceeds that of independent parts when the query
// has one bit: measured on clustered vectors, where it is largest.
constexpr double kOneBitQueryExcess = 2.0;

uint64_t NextRandom(uint64_t* state) {  // splitmix64
  *state += 0x9e3779b97f4a7c15U;
  uint64_t z = *state;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

void Rotate(const std::vector<float>& signs, std::vector<float>* vector) {
  kernels::HadamardRotateParams params;
  params.input = vector->data();
  params.output = vector->data();
  params.signs = signs.data();
  params.dim = static_cast<int64_t>(vector->size());
  params.num_rounds = kRounds;
  INTARSIA_CHECK(kernels::HadamardRotate(params).ok());
}

double SquareOf(const std::vector<float>& vector) {
  double sum = 0.0;
  for (const float value : vector) sum += static_cast<double>(value) * value;
  return sum;
}

// target = source - center, padded with zeros.
void Subtract(std::span<const float> source, std::span<const float> center,
              std::vector<float>* target) {
  std::fill(target->begin(), target->end(), 0.0F);
  for (size_t i = 0; i < source.size(); ++i) (*target)[i] = source[i] - center[i];
}

std::vector<float> MeanOf(const FlatIndex& rows) {
  std::vector<double> sum(static_cast<size_t>(rows.dim()), 0.0);
  for (int64_t slot = 0; slot < rows.size(); ++slot) {
    const std::span<const float> row = rows.row(slot);
    for (size_t i = 0; i < row.size(); ++i) sum[i] += row[i];
  }
  std::vector<float> mean(sum.size());
  for (size_t i = 0; i < sum.size(); ++i) {
    mean[i] = static_cast<float>(sum[i] / static_cast<double>(rows.size()));
  }
  return mean;
}

}  // namespace

Result<std::unique_ptr<BinaryIndex>> BinaryIndex::Build(const FlatIndex& rows,
                                                        const BinaryIndexOptions& options,
                                                        ThreadPool* pool) {
  if (options.bits < 0 || options.bits > 2) {
    return Status(StatusCode::kInvalidArgument,
                  "bits a dimension out of range: bits=" + std::to_string(options.bits) +
                      ", want 1, 2 or 0 for the default");
  }
  if (rows.size() == 0) {
    return Status(StatusCode::kInvalidArgument,
                  "a binary index needs vectors to find their centre: add some first");
  }
  const int32_t default_bits = rows.dim() <= kTwoBitDimMax ? 2 : 1;
  auto index = std::unique_ptr<BinaryIndex>(new BinaryIndex());
  index->SetGeometry(rows.dim(), options.bits == 0 ? default_bits : options.bits, options.seed);
  index->SetCenter(MeanOf(rows));
  index->num_fitted_ = rows.size();
  INTARSIA_RETURN_IF_ERROR(index->EncodeFrom(rows, 0, pool));
  INTARSIA_RETURN_IF_ERROR(rows.CheckDamage());
  return index;
}

void BinaryIndex::SetGeometry(int64_t dim, int32_t bits, uint64_t seed) {
  dim_ = dim;
  num_bits_ = (dim + 63) / 64 * 64;
  bits_ = bits;
  seed_ = seed;
  rotation_signs_.resize(static_cast<size_t>(kRounds * num_bits_));
  uint64_t state = seed;
  for (float& sign : rotation_signs_) sign = (NextRandom(&state) & 1) != 0 ? 1.0F : -1.0F;
}

void BinaryIndex::SetCenter(std::span<const float> center) {
  center_.assign(center.begin(), center.end());
  center_square_ = SquareOf(center_);
}

Status BinaryIndex::Resize(int64_t num_rows) {
  // The sizes below are products of this and small numbers.
  if (num_rows > std::numeric_limits<int64_t>::max() / (2 * num_bits_) - kBlock) {
    return Status(StatusCode::kResourceExhausted,
                  "out of memory: codes=" + std::to_string(num_rows));
  }
  const int64_t num_slots = (num_rows + kBlock - 1) / kBlock * kBlock;
  const int64_t num_words = num_slots * num_bits_ / 64;
  for (int32_t plane = 0; plane < bits_; ++plane) {
    AlignedArray<uint64_t>& words = planes_[plane];
    if (words.size() >= num_words) continue;
    // The first time exactly, later with room, so that adding stays linear.
    INTARSIA_ASSIGN_OR_RETURN(auto more,
                              AlignedArray<uint64_t>::TryCreate(
                                  words.size() == 0 ? num_words : num_words + num_words / 4));
    std::copy_n(words.data(), words.size(), more.data());
    std::fill(more.data() + words.size(), more.data() + more.size(), 0);
    words = std::move(more);
  }
  scales_.resize(static_cast<size_t>(num_slots), 0.0F);
  offsets_.resize(static_cast<size_t>(num_slots), 0.0F);
  errors_.resize(static_cast<size_t>(num_slots), 0.0F);
  num_rows_ = num_rows;
  return Status::Ok();
}

size_t BinaryIndex::WordAt(int64_t slot, int64_t word) const {
  return static_cast<size_t>(((slot / kBlock) * (num_bits_ / 64) + word) * kBlock + slot % kBlock);
}

int64_t BinaryIndex::memory_bytes() const {
  const int64_t code_bytes = planes_[0].num_bytes() + planes_[1].num_bytes();
  const size_t num_floats =
      scales_.size() + offsets_.size() + errors_.size() + center_.size() + rotation_signs_.size();
  return code_bytes + static_cast<int64_t>(num_floats * sizeof(float));
}

void BinaryIndex::Encode(std::span<const float> row, int64_t slot, std::vector<float>* scratch) {
  Subtract(row, center_, scratch);
  double offset = -center_square_;
  for (size_t i = 0; i < row.size(); ++i) offset += static_cast<double>(center_[i]) * row[i];
  const double square = SquareOf(*scratch);
  Rotate(rotation_signs_, scratch);

  const int64_t num_words = num_bits_ / 64;
  const auto threshold =
      static_cast<float>(kUpperLevelFrom * std::sqrt(square / static_cast<double>(num_bits_)));
  double product = 0.0;      // <x, R(o - c)>
  double code_square = 0.0;  // <x, x>
  for (int64_t w = 0; w < num_words; ++w) {
    uint64_t signs = 0;
    uint64_t lower = 0;  // Of two planes, the one that counts once; the signs count twice.
    for (int64_t bit = 0; bit < 64; ++bit) {
      const float value = (*scratch)[static_cast<size_t>(w * 64 + bit)];
      const bool is_positive = value > 0.0F;
      const bool is_upper = bits_ == 2 && std::fabs(value) > threshold;
      const double level = is_upper ? 3.0 : 1.0;
      signs |= static_cast<uint64_t>(is_positive) << bit;
      lower |= static_cast<uint64_t>(is_positive == is_upper) << bit;
      product += level * std::fabs(value);
      code_square += level * level;
    }
    planes_[0].data()[WordAt(slot, w)] = bits_ == 2 ? lower : signs;
    if (bits_ == 2) planes_[1].data()[WordAt(slot, w)] = signs;
  }

  const auto at = static_cast<size_t>(slot);
  offsets_[at] = static_cast<float>(offset);
  // A vector at the centre is estimated exactly, whatever its code.
  const bool is_center = square <= 0.0 || product <= 0.0;
  scales_[at] = is_center ? 0.0F : static_cast<float>(square / product);
  const double excess = is_center ? 0.0 : square * code_square / (product * product) - 1.0;
  errors_[at] = static_cast<float>(std::sqrt(square * std::max(0.0, excess)));
}

Status BinaryIndex::EncodeFrom(const FlatIndex& rows, int64_t begin, ThreadPool* pool) {
  INTARSIA_RETURN_IF_ERROR(Resize(rows.size()));
  const auto encode = [&](int64_t range, int /*worker*/) {
    std::vector<float> scratch(static_cast<size_t>(num_bits_));
    const int64_t first = begin + range * kEncodeRows;
    const int64_t end = std::min(rows.size(), first + kEncodeRows);
    for (int64_t slot = first; slot < end; ++slot) Encode(rows.row(slot), slot, &scratch);
  };
  const int64_t num_ranges = (rows.size() - begin + kEncodeRows - 1) / kEncodeRows;
  if (pool != nullptr) {
    pool->ParallelFor(num_ranges, encode);
  } else {
    for (int64_t range = 0; range < num_ranges; ++range) encode(range, 0);
  }
  return Status::Ok();
}

Status BinaryIndex::Append(const FlatIndex& rows, ThreadPool* pool) {
  if (rows.dim() != dim_ || rows.size() < size()) {
    return Status(StatusCode::kInvalidArgument,
                  "binary index is not in step with its vectors: dim=" + std::to_string(dim_) +
                      "/" + std::to_string(rows.dim()) + " size=" + std::to_string(size()) + "/" +
                      std::to_string(rows.size()));
  }
  INTARSIA_RETURN_IF_ERROR(EncodeFrom(rows, size(), pool));
  return rows.CheckDamage();
}

Result<std::unique_ptr<BinaryIndex>> BinaryIndex::Restore(const BinaryCodeSpace& space,
                                                          int64_t num_rows) {
  const auto is_finite = [](float value) { return std::isfinite(value); };
  if (space.dim < 1 || space.bits < 1 || space.bits > 2 || space.num_fitted < 0 ||
      std::ssize(space.center) != space.dim || !std::ranges::all_of(space.center, is_finite)) {
    return Status(StatusCode::kInvalidArgument,
                  "codes out of range: dim=" + std::to_string(space.dim) +
                      " bits=" + std::to_string(space.bits) +
                      " num_fitted=" + std::to_string(space.num_fitted) +
                      " center=" + std::to_string(space.center.size()));
  }
  auto index = std::unique_ptr<BinaryIndex>(new BinaryIndex());
  index->SetGeometry(space.dim, space.bits, space.seed);
  index->SetCenter(space.center);
  index->num_fitted_ = space.num_fitted;
  INTARSIA_RETURN_IF_ERROR(index->Resize(std::max<int64_t>(0, num_rows)));
  INTARSIA_RETURN_IF_ERROR(index->Resize(0));
  return index;
}

Status BinaryIndex::AppendBlocks(const kernels::BinaryCodeBlocks& blocks, int64_t num_rows) {
  const int64_t begin = size();
  if (blocks.num_planes != bits_ || blocks.num_words != num_bits_ / 64 || begin % kBlock != 0 ||
      num_rows < 0 || (num_rows + kBlock - 1) / kBlock != blocks.num_blocks) {
    return Status(StatusCode::kInvalidArgument,
                  "blocks of codes do not fit: planes=" + std::to_string(blocks.num_planes) +
                      " words=" + std::to_string(blocks.num_words) +
                      " blocks=" + std::to_string(blocks.num_blocks) +
                      " size=" + std::to_string(begin) + " rows=" + std::to_string(num_rows));
  }
  for (int64_t i = 0; i < num_rows; ++i) {
    if (!std::isfinite(blocks.scales[i]) || !std::isfinite(blocks.offsets[i]) ||
        !std::isfinite(blocks.errors[i]) || blocks.errors[i] < 0.0F) {
      return Status(StatusCode::kInvalidArgument,
                    "a factor of a code is out of range: slot=" + std::to_string(begin + i));
    }
  }
  INTARSIA_RETURN_IF_ERROR(Resize(begin + num_rows));
  const int64_t num_words = blocks.num_blocks * kBlock * blocks.num_words;
  for (int32_t plane = 0; plane < bits_; ++plane) {
    std::copy_n(blocks.planes[plane], num_words, planes_[plane].data() + begin * blocks.num_words);
  }
  std::copy_n(blocks.scales, blocks.num_blocks * kBlock, scales_.begin() + begin);
  std::copy_n(blocks.offsets, blocks.num_blocks * kBlock, offsets_.begin() + begin);
  std::copy_n(blocks.errors, blocks.num_blocks * kBlock, errors_.begin() + begin);
  return Status::Ok();
}

std::vector<double> BinaryIndex::SharesOfSetBits() const {
  std::vector<double> shares(static_cast<size_t>(bits_ * num_bits_), 0.0);
  const double share = 1.0 / static_cast<double>(std::max<int64_t>(1, size()));
  for (int32_t plane = 0; plane < bits_; ++plane) {
    for (int64_t slot = 0; slot < size(); ++slot) {
      for (int64_t w = 0; w < num_bits_ / 64; ++w) {
        const size_t first = static_cast<size_t>(plane * num_bits_ + w * 64);
        uint64_t bits = planes_[plane].data()[WordAt(slot, w)];
        for (; bits != 0; bits &= bits - 1) {
          shares[first + static_cast<size_t>(std::countr_zero(bits))] += share;
        }
      }
    }
  }
  return shares;
}

double BinaryIndex::RoundQuery(Query* query) const {
  const int64_t num_words = num_bits_ / 64;
  query->planes.assign(static_cast<size_t>(query->num_planes * num_words), 0);
  // One plane knows signs only, and their mean length fits them best.
  float largest = 0.0F;
  double length_sum = 0.0;
  for (const float value : query->rotated) {
    largest = std::max(largest, std::fabs(value));
    length_sum += std::fabs(value);
  }
  const int32_t level_max = (1 << query->num_planes) - 1;
  query->half_step = query->num_planes == 1
                         ? static_cast<float>(length_sum / static_cast<double>(num_bits_))
                         : largest / static_cast<float>(level_max);
  if (!(query->half_step > 0.0F)) return 0.0;
  double rounding_square = 0.0;
  for (int64_t i = 0; i < num_bits_; ++i) {
    const float value = query->rotated[static_cast<size_t>(i)];
    const float position = (value / query->half_step + static_cast<float>(level_max)) / 2.0F;
    const auto level =
        static_cast<int32_t>(std::clamp(std::round(position), 0.0F, static_cast<float>(level_max)));
    const float rounded = query->half_step * static_cast<float>(2 * level - level_max);
    rounding_square += static_cast<double>(value - rounded) * (value - rounded);
    for (int32_t plane = 0; plane < query->num_planes; ++plane) {
      query->planes[static_cast<size_t>(plane * num_words + i / 64)] |=
          static_cast<uint64_t>((level >> plane) & 1) << (i % 64);
    }
  }
  return rounding_square;
}

BinaryIndex::Query BinaryIndex::RotateQuery(std::vector<float> vector) const {
  Query query;
  query.rotated.resize(static_cast<size_t>(num_bits_));
  Subtract(vector, center_, &query.rotated);
  double base = 0.0;
  for (size_t i = 0; i < center_.size(); ++i) base += static_cast<double>(vector[i]) * center_[i];
  query.whole_error_factor =
      static_cast<float>(std::sqrt(SquareOf(query.rotated) / static_cast<double>(num_bits_ - 1)));
  Rotate(rotation_signs_, &query.rotated);
  query.base = static_cast<float>(base);
  query.vector = std::move(vector);
  return query;
}

float BinaryIndex::ErrorFactor(float whole_error_factor, double rounding_square) const {
  // The code's own error, and what the rounding of the query adds: both grow with errors_[slot].
  const double loss = bits_ == 2 ? kTwoBitLoss : kOneBitLoss;
  const double whole = static_cast<double>(whole_error_factor) * whole_error_factor;
  return static_cast<float>(
      std::sqrt(whole + rounding_square / (static_cast<double>(num_bits_) * loss)));
}

BinaryIndex::Query BinaryIndex::MakeQuery(std::vector<float> vector, int32_t query_bits) const {
  Query query = RotateQuery(std::move(vector));
  query.num_planes = query_bits;
  double rounding_square = RoundQuery(&query);
  // What one bit takes away is not independent of the code of a vector near the query.
  if (query_bits == 1) rounding_square *= kOneBitQueryExcess;
  query.error_factor = ErrorFactor(query.whole_error_factor, rounding_square);
  return query;
}

}  // namespace intarsia::index
