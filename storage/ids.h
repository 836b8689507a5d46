// Ids: the numbers by which storage names what it holds.
//
// Each kind counts up from 1 within a database and no number is ever given twice, so an id that
// outlives its owner finds nothing instead of somebody else's data. 0 means "none".
#pragma once

#include <cstdint>

namespace intarsia::storage {

using CollectionId = uint64_t;
using ModelId = uint64_t;
using DocumentId = uint64_t;
using ChunkId = uint64_t;

}  // namespace intarsia::storage
