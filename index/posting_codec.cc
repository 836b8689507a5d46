#include "index/posting_codec.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>

#include "base/check.h"

namespace intarsia::index {
namespace {

constexpr uint32_t kFormatVersion = 1;
constexpr int kWidthMax = 56;
constexpr uint64_t kUint32Max = std::numeric_limits<uint32_t>::max();

Status Damaged(std::string_view what, uint64_t value) {
  return Status(StatusCode::kCorruption,
                "postings: " + std::string(what) + ": value=" + std::to_string(value));
}

void WriteBound(const ScoreBound& bound, ByteWriter* writer) {
  WriteVarint(bound.max_frequency, writer);
  WriteVarint(bound.length, writer);
  WriteVarint(bound.frequency, writer);
}

Result<ScoreBound> ReadBound(ByteReader* reader) {
  const uint64_t max_frequency = ReadVarint(reader);
  const uint64_t length = ReadVarint(reader);
  const uint64_t frequency = ReadVarint(reader);
  INTARSIA_RETURN_IF_ERROR(reader->status());
  if (max_frequency < 1 || max_frequency > kUint32Max) {
    return Damaged("a highest frequency out of range", max_frequency);
  }
  if (length > kUint32Max) return Damaged("a length out of range", length);
  if (frequency < 1 || frequency > max_frequency) {
    return Damaged("a frequency above the highest", frequency);
  }
  return ScoreBound{.max_frequency = static_cast<uint32_t>(max_frequency),
                    .length = static_cast<uint32_t>(length),
                    .frequency = static_cast<uint32_t>(frequency)};
}

Result<PostingBlock> ReadDirectoryEntry(uint64_t least_id, ByteReader* reader,
                                        int64_t* posting_bytes) {
  PostingBlock block;
  const uint64_t gap = ReadVarint(reader);
  const uint64_t span = ReadVarint(reader);
  block.count = int64_t{reader->Read<uint8_t>()} + 1;
  INTARSIA_ASSIGN_OR_RETURN(block.bound, ReadBound(reader));
  const uint64_t bytes = ReadVarint(reader);
  const uint64_t position_bytes = ReadVarint(reader);
  INTARSIA_RETURN_IF_ERROR(reader->status());
  if (gap >= kPostingIdEnd - least_id) return Damaged("a block begins out of range", gap);
  block.first_id = least_id + gap;
  if (span >= kPostingIdEnd - block.first_id) return Damaged("a block ends out of range", span);
  block.last_id = block.first_id + span;
  if (block.count > kPostingsPerBlock || static_cast<uint64_t>(block.count - 1) > span ||
      (block.count == 1 && span > 0)) {
    return Damaged("a block has a count that its ids cannot have",
                   static_cast<uint64_t>(block.count));
  }
  // Two arrays of at most 8 bytes a value, each behind its width.
  if (bytes > 2 * (1 + static_cast<uint64_t>(kPostingsPerBlock) * 8)) {
    return Damaged("a block is too large", bytes);
  }
  if (position_bytes > kUint32Max) {
    return Damaged("a block's positions are too large", position_bytes);
  }
  *posting_bytes = static_cast<int64_t>(bytes);
  block.position_bytes = static_cast<int64_t>(position_bytes);
  return block;
}

}  // namespace

void WriteVarint(uint64_t value, ByteWriter* writer) {
  for (; value >= 0x80; value >>= 7) {
    writer->Write(static_cast<uint8_t>(value | 0x80));
  }
  writer->Write(static_cast<uint8_t>(value));
}

uint64_t ReadVarint(ByteReader* reader) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    const auto byte = reader->Read<uint8_t>();
    if (reader->failed()) return 0;
    const uint64_t bits = byte & 0x7F;
    if (shift == 63 && bits > 1) break;
    value |= bits << shift;
    if (byte < 0x80) return value;
  }
  reader->ReadBytes(-1);  // More than 64 bits: fails the reader.
  return 0;
}

void WritePacked(std::span<const uint64_t> values, ByteWriter* writer) {
  uint64_t all = 0;
  for (const uint64_t value : values) all |= value;
  const auto width = static_cast<int>(std::bit_width(all));
  INTARSIA_CHECK(width <= kWidthMax);
  writer->Write(static_cast<uint8_t>(width));
  uint64_t pending = 0;
  int num_pending = 0;  // below 8 between values
  for (const uint64_t value : values) {
    pending |= value << num_pending;
    num_pending += width;
    for (; num_pending >= 8; num_pending -= 8, pending >>= 8) {
      writer->Write(static_cast<uint8_t>(pending));
    }
  }
  if (num_pending > 0) writer->Write(static_cast<uint8_t>(pending));
}

Status ReadPacked(ByteReader* reader, std::span<uint64_t> values) {
  const int width = reader->Read<uint8_t>();
  if (width > kWidthMax) return Damaged("too many bits a value", static_cast<uint64_t>(width));
  const int64_t num_bytes = (std::ssize(values) * width + 7) / 8;
  const std::string_view bytes = reader->ReadBytes(num_bytes);
  INTARSIA_RETURN_IF_ERROR(reader->status());
  const uint64_t mask = (uint64_t{1} << width) - 1;
  int64_t bit = 0;
  for (uint64_t& value : values) {
    const int64_t byte = bit / 8;
    uint64_t word = 0;
    if (byte + 8 <= num_bytes) {
      std::memcpy(&word, bytes.data() + byte, sizeof(word));
    } else {
      std::memcpy(&word, bytes.data() + byte, static_cast<size_t>(num_bytes - byte));
    }
    value = word >> (bit % 8) & mask;
    bit += width;
  }
  return Status::Ok();
}

void ScoreBound::Include(uint32_t posting_frequency, uint32_t chunk_length) {
  Include(ScoreBound{
      .max_frequency = posting_frequency, .length = chunk_length, .frequency = posting_frequency});
}

void ScoreBound::Include(const ScoreBound& other) {
  max_frequency = std::max(max_frequency, other.max_frequency);
  if (frequency == 0 || uint64_t{other.length} * frequency < uint64_t{length} * other.frequency) {
    length = other.length;
    frequency = other.frequency;
  }
}

int64_t PostingPage::position_bytes() const {
  int64_t sum = 0;
  for (const PostingBlock& block : blocks) sum += block.position_bytes;
  return sum;
}

std::string EncodePage(const PostingPage& page) {
  INTARSIA_CHECK(std::ssize(page.blocks) <= kBlocksPerPage);
  ByteWriter writer;
  writer.Write(static_cast<uint8_t>(page.blocks.size()));
  uint64_t least_id = 0;
  for (const PostingBlock& block : page.blocks) {
    WriteVarint(block.first_id - least_id, &writer);
    WriteVarint(block.last_id - block.first_id, &writer);
    writer.Write(static_cast<uint8_t>(block.count - 1));
    WriteBound(block.bound, &writer);
    WriteVarint(block.postings.size(), &writer);
    WriteVarint(static_cast<uint64_t>(block.position_bytes), &writer);
    least_id = block.last_id + 1;
  }
  for (const PostingBlock& block : page.blocks) writer.WriteBytes(block.postings);
  return std::move(writer).TakeBytes();
}

Result<PostingPage> ParsePage(ByteReader* reader) {
  PostingPage page;
  const int64_t num_blocks = reader->Read<uint8_t>();
  if (num_blocks > kBlocksPerPage) {
    return Damaged("too many blocks in a page", static_cast<uint64_t>(num_blocks));
  }
  std::array<int64_t, kBlocksPerPage> posting_bytes = {};
  uint64_t least_id = 0;
  for (int64_t i = 0; i < num_blocks; ++i) {
    INTARSIA_ASSIGN_OR_RETURN(
        const PostingBlock block,
        ReadDirectoryEntry(least_id, reader, &posting_bytes[static_cast<size_t>(i)]));
    page.blocks.push_back(block);
    least_id = block.last_id + 1;
  }
  for (int64_t i = 0; i < num_blocks; ++i) {
    page.blocks[static_cast<size_t>(i)].postings =
        reader->ReadBytes(posting_bytes[static_cast<size_t>(i)]);
  }
  INTARSIA_RETURN_IF_ERROR(reader->status());
  return page;
}

std::string EncodePostings(std::span<const uint64_t> ids, std::span<const uint32_t> frequencies) {
  INTARSIA_CHECK(!ids.empty() && ids.size() == frequencies.size() &&
                 std::ssize(ids) <= kPostingsPerBlock);
  std::array<uint64_t, kPostingsPerBlock> values = {};
  // The first id stands in the directory; the others are their distance from the one before.
  for (size_t i = 1; i < ids.size(); ++i) {
    INTARSIA_CHECK(ids[i] > ids[i - 1]);
    values[i - 1] = ids[i] - ids[i - 1] - 1;
  }
  ByteWriter writer;
  WritePacked(std::span(values).first(ids.size() - 1), &writer);
  for (size_t i = 0; i < ids.size(); ++i) values[i] = uint64_t{frequencies[i]} - 1;
  WritePacked(std::span(values).first(ids.size()), &writer);
  return std::move(writer).TakeBytes();
}

Status DecodePostings(const PostingBlock& block, std::span<uint64_t> ids,
                      std::span<uint32_t> frequencies) {
  const auto count = static_cast<size_t>(block.count);
  INTARSIA_CHECK(ids.size() == count && frequencies.size() == count);
  ByteReader reader(block.postings, "postings");
  std::array<uint64_t, kPostingsPerBlock> values = {};
  INTARSIA_RETURN_IF_ERROR(ReadPacked(&reader, std::span(values).first(count - 1)));
  ids[0] = block.first_id;
  for (size_t i = 1; i < count; ++i) {
    // Both are below 2^56, so the sum fits; that it ends where it should is checked below.
    ids[i] = ids[i - 1] + values[i - 1] + 1;
    if (ids[i] > block.last_id) return Damaged("an id behind the end of its block", ids[i]);
  }
  if (ids[count - 1] != block.last_id) return Damaged("a block ends early", ids[count - 1]);
  INTARSIA_RETURN_IF_ERROR(ReadPacked(&reader, std::span(values).first(count)));
  for (size_t i = 0; i < count; ++i) {
    if (values[i] >= block.bound.max_frequency) {
      return Damaged("a frequency above its block's", values[i] + 1);
    }
    frequencies[i] = static_cast<uint32_t>(values[i] + 1);
  }
  return reader.Finish();
}

std::string EncodePositions(std::span<const uint32_t> frequencies,
                            std::span<const uint32_t> positions) {
  ByteWriter writer;
  auto position = positions.begin();
  for (const uint32_t frequency : frequencies) {
    uint32_t least = 0;
    for (uint32_t i = 0; i < frequency; ++i, ++position) {
      WriteVarint(*position - least, &writer);
      least = *position + 1;
    }
  }
  INTARSIA_CHECK(position == positions.end());
  return std::move(writer).TakeBytes();
}

Result<std::vector<uint32_t>> DecodePositions(std::string_view bytes,
                                              std::span<const uint32_t> frequencies) {
  ByteReader reader(bytes, "positions");
  std::vector<uint32_t> positions;
  for (const uint32_t frequency : frequencies) {
    // A position takes a byte at least.
    if (frequency > reader.remaining()) return Damaged("positions end early", frequency);
    uint64_t least = 0;
    for (uint32_t i = 0; i < frequency; ++i) {
      const uint64_t gap = ReadVarint(&reader);
      if (gap > kUint32Max - 1 || least + gap > kUint32Max - 1) {
        return Damaged("a position out of range", gap);
      }
      positions.push_back(static_cast<uint32_t>(least + gap));
      least += gap + 1;
    }
  }
  INTARSIA_RETURN_IF_ERROR(reader.Finish());
  return positions;
}

std::string EncodeTermRow(const TermRow& row) {
  ByteWriter writer;
  WriteVarint(static_cast<uint64_t>(row.num_postings), &writer);
  WriteBound(row.bound, &writer);
  writer.WriteBytes(EncodePage(row.page));
  writer.WriteBytes(row.positions);
  return std::move(writer).TakeBytes();
}

Result<TermRow> DecodeTermRow(std::string_view body) {
  ByteReader reader(body, "row of a term");
  TermRow row;
  const uint64_t num_postings = ReadVarint(&reader);
  INTARSIA_ASSIGN_OR_RETURN(row.bound, ReadBound(&reader));
  INTARSIA_ASSIGN_OR_RETURN(row.page, ParsePage(&reader));
  row.positions = reader.ReadBytes(row.page.position_bytes());
  INTARSIA_RETURN_IF_ERROR(reader.Finish());
  uint64_t in_page = 0;
  for (const PostingBlock& block : row.page.blocks) in_page += static_cast<uint64_t>(block.count);
  if (num_postings < 1 || num_postings < in_page || num_postings >= kPostingIdEnd) {
    return Damaged("a term has a count that it cannot have", num_postings);
  }
  row.num_postings = static_cast<int64_t>(num_postings);
  return row;
}

std::string EncodeWordRow(const WordRow& row) {
  ByteWriter writer;
  WriteVarint(static_cast<uint64_t>(row.num_chunks), &writer);
  writer.WriteBytes(row.term);
  return std::move(writer).TakeBytes();
}

Result<WordRow> DecodeWordRow(std::string_view body) {
  ByteReader reader(body, "row of a word");
  const uint64_t num_chunks = ReadVarint(&reader);
  const std::string_view term = reader.ReadBytes(reader.remaining());
  INTARSIA_RETURN_IF_ERROR(reader.status());
  if (num_chunks < 1 || num_chunks >= kPostingIdEnd || term.empty()) {
    return Damaged("a word has a count or a term that it cannot have", num_chunks);
  }
  return WordRow{.num_chunks = static_cast<int64_t>(num_chunks), .term = std::string(term)};
}

std::string EncodeLengths(std::span<const uint32_t> lengths) {
  INTARSIA_CHECK(std::ssize(lengths) == kLengthsPerRow);
  ByteWriter writer;
  std::array<uint64_t, kPostingsPerBlock> values = {};
  for (size_t begin = 0; begin < lengths.size(); begin += values.size()) {
    for (size_t i = 0; i < values.size(); ++i) values[i] = lengths[begin + i];
    WritePacked(values, &writer);
  }
  return std::move(writer).TakeBytes();
}

Result<std::vector<uint32_t>> DecodeLengths(std::string_view body) {
  ByteReader reader(body, "lengths of chunks");
  std::vector<uint32_t> lengths;
  lengths.reserve(static_cast<size_t>(kLengthsPerRow));
  std::array<uint64_t, kPostingsPerBlock> values = {};
  while (std::ssize(lengths) < kLengthsPerRow) {
    INTARSIA_RETURN_IF_ERROR(ReadPacked(&reader, values));
    for (const uint64_t value : values) {
      if (value > kUint32Max) return Damaged("a length out of range", value);
      lengths.push_back(static_cast<uint32_t>(value));
    }
  }
  INTARSIA_RETURN_IF_ERROR(reader.Finish());
  return lengths;
}

std::string EncodeTextStats(const TextStats& stats) {
  ByteWriter writer;
  writer.Write(kFormatVersion);
  writer.Write(stats.num_chunks);
  writer.Write(stats.num_terms);
  writer.WriteString(stats.signature);
  return std::move(writer).TakeBytes();
}

Result<TextStats> DecodeTextStats(std::string_view body) {
  ByteReader reader(body, "statistics of a text index");
  const auto version = reader.Read<uint32_t>();
  if (!reader.failed() && version != kFormatVersion) {
    return Status(StatusCode::kUnsupported,
                  "a text index of another version: got=" + std::to_string(version) +
                      " want=" + std::to_string(kFormatVersion));
  }
  TextStats stats;
  stats.num_chunks = reader.Read<int64_t>();
  stats.num_terms = reader.Read<int64_t>();
  stats.signature = reader.ReadString();
  INTARSIA_RETURN_IF_ERROR(reader.Finish());
  if (stats.num_chunks < 0 || stats.num_terms < 0) {
    return Damaged("negative statistics",
                   static_cast<uint64_t>(std::min(stats.num_chunks, stats.num_terms)));
  }
  return stats;
}

}  // namespace intarsia::index
