#include "base/memory_rows.h"

namespace intarsia {
namespace {

class MapIterator : public RowIterator {
 public:
  MapIterator(const MemoryRows::Map& rows, std::string_view begin, std::string_view end)
      : rows_(rows), row_(rows.lower_bound(begin)), end_(rows.lower_bound(end)) {
    if (begin >= end) row_ = end_;
  }

  bool Valid() const override { return row_ != end_; }
  void Seek(std::string_view key) override {
    row_ = rows_.lower_bound(key);
    if (end_ != rows_.end() && key >= end_->first) row_ = end_;
  }
  void Next() override { ++row_; }
  std::string_view key() const override { return row_->first; }
  Result<std::string_view> Body() const override { return std::string_view(row_->second); }
  Status status() const override { return Status::Ok(); }

 private:
  const MemoryRows::Map& rows_;
  MemoryRows::Map::const_iterator row_;
  MemoryRows::Map::const_iterator end_;
};

}  // namespace

Result<std::string> MemoryRows::Get(std::string_view key) const {
  const auto found = rows_.find(key);
  if (found == rows_.end()) return Status(StatusCode::kNotFound, "no such row in memory");
  return found->second;
}

std::unique_ptr<RowIterator> MemoryRows::NewIterator(std::string_view begin,
                                                     std::string_view end) const {
  return std::make_unique<MapIterator>(rows_, begin, end);
}

void MemoryRows::Put(std::string_view key, std::string_view body) {
  rows_.insert_or_assign(std::string(key), std::string(body));
}

void MemoryRows::Delete(std::string_view key) {
  const auto found = rows_.find(key);
  if (found != rows_.end()) rows_.erase(found);
}

}  // namespace intarsia
