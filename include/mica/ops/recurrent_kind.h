// The kinds of recurrent networks, as ops, kernels and layers name them.
#pragma once

#include <cstdint>

#include "mica/core/macros.h"

namespace MICA_EXPORT mica {

/// Elman's network, the LSTM and the GRU: see rnn(), lstm() and gru().
enum class RecurrentKind : uint8_t { rnn, lstm, gru };

/// How many gates each unit has.
MICA_HD constexpr int64_t gates_of(RecurrentKind kind) {
  return kind == RecurrentKind::rnn ? 1 : kind == RecurrentKind::lstm ? 4 : 3;
}

}  // namespace mica
