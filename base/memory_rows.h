// MemoryRows: rows in memory, for what is built of a database that may not be written to.
//
// Thread safety: concurrent const calls only.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/row_store.h"

namespace intarsia {

class MemoryRows : public RowReader, public RowWriter {
 public:
  using Map = std::map<std::string, std::string, std::less<>>;

  Result<std::string> Get(std::string_view key) const override;
  std::unique_ptr<RowIterator> NewIterator(std::string_view begin,
                                           std::string_view end) const override;
  void Put(std::string_view key, std::string_view body) override;
  void Delete(std::string_view key) override;

  const Map& rows() const { return rows_; }

 private:
  Map rows_;
};

}  // namespace intarsia
