-- Trims a stream, taking its consumer groups into account, counts the entries that they lose, and
-- measures them. One call is atomic, so that any number of nodes may call it at any time.
--
-- KEYS: the stream; a hash beside it: group -> entries trimmed before the group had read them ARGV:
-- maxlen | bytes | consumed; bound in entries and in bytes (0: none); the most entries to
--       trim; 1 to measure, else 0; then the groups that count for nothing
-- Returns {'ok', entries, bytes (-1: not measured), trimmed, the group that holds the stream or '',
--          groups, then for each measured group: name, entries not delivered (-1: not known),
--          entries pending, ms since the oldest unread was added (-1: none), trimmed unread}
--      or {'error', text}. Raises READONLY only, so that the caller connects to the new master.
local stream, counters = KEYS[1], KEYS[2]
local mode, entries_max, bytes_max = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local limit, measure = tonumber(ARGV[4]), ARGV[5] == '1'
local NODE_ENTRIES = 100      -- stream-node-max-entries; only what '~' leaves depends on it
local GROUPS_MEASURED = 16    -- those that are the furthest behind
local PENDING_PAGE = 1000
local PENDING_BYTES = 1050    -- the most that MEMORY USAGE counts for a pending id, of 150 at most
local NODES_SAMPLED = 100000  -- takes 3 ms; of a few nodes, one large entry would decide
local ENTRY_BYTES = 16        -- of an entry beside its values
local ENTRIES_SAMPLED = 10

local ignored = {}
for i = 6, #ARGV do
  ignored[ARGV[i]] = true
end

-- Entry ids exceed the range of a Lua number.
local function number_less(a, b)
  if #a ~= #b then
    return #a < #b
  end
  return a < b
end

local function id_less(a, b)
  local a_ms, a_seq = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)-(%d+)$')
  if a_ms ~= b_ms then
    return number_less(a_ms, b_ms)
  end
  return number_less(a_seq, b_seq)
end

-- The smallest id after this one. For a sequence number that is no exact Lua number: the id itself,
-- which keeps an entry more.
local function id_after(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return #seq < 16 and string.format('%s-%.0f', ms, tonumber(seq) + 1) or id
end

local function first_id(from)
  local entry = redis.call('XRANGE', stream, from, '+', 'COUNT', 1)[1]
  return entry and entry[1]
end

-- A pending id whose entry is gone holds nothing: only ids from `first` count.
local function oldest_pending(group, first)
  if group.pending == 0 or not first then
    return nil
  end
  local pending = redis.call('XPENDING', stream, group.name, first, '+', 1)[1]
  return pending and pending[1]
end

local function read_groups(first)
  local groups, total, pending = {}, 0, 0
  if redis.call('EXISTS', stream) == 0 then
    return groups, total, pending
  end
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local group = {}
    for i = 1, #flat, 2 do
      group[flat[i]] = flat[i + 1]
    end
    total, pending = total + 1, pending + group.pending
    if not ignored[group.name] then
      group.after = id_after(group['last-delivered-id'])
      group.oldest_pending = oldest_pending(group, first)
      group.floor = group.after
      if group.oldest_pending and id_less(group.oldest_pending, group.floor) then
        group.floor = group.oldest_pending
      end
      groups[#groups + 1] = group
    end
  end
  table.sort(groups, function(a, b) return id_less(a.after, b.after) end)
  return groups, total, pending
end

local function count_lost(group, n)
  if n > 0 then
    redis.call('HINCRBY', counters, group.name, n)
  end
end

local trimmed = 0

-- Counts the trimmed entries for the first n groups, to which none of them was delivered.
local function cut(groups, n, ...)
  local count = redis.call('XTRIM', stream, ...)
  trimmed = trimmed + count
  for i = 1, n do
    count_lost(groups[i], count)
  end
end

-- Down to about `target` entries, step by step to where each group begins to lose: so the number of
-- entries that each loses is exact.
local function trim_oldest(groups, target, tolerance)
  local len = redis.call('XLEN', stream)
  for i, group in ipairs(groups) do
    local excess = len - target - trimmed
    if excess <= 0 or trimmed >= limit then
      return
    end
    cut(groups, i - 1, 'MINID', '~', group.after, 'LIMIT', math.min(excess, limit))
    excess = len - target - trimmed
    if excess < tolerance or excess <= 0 then
      return
    end
    local few = math.min(excess, NODE_ENTRIES)
    local before = #redis.call('XRANGE', stream, '-', '(' .. group.after, 'COUNT', few)
    if before == few then
      return  -- more of a node than is to go
    end
    if before > 0 then
      cut(groups, i - 1, 'MINID', '=', group.after)
    end
  end
  if len - target - trimmed > 0 then
    cut(groups, #groups, 'MAXLEN', '~', target, 'LIMIT', limit)
  end
end

-- Delivered, not acknowledged, and gone now. After XGROUP SETID or XCLAIM FORCE, an id may be pending
-- that is still to be delivered: cut() has counted that.
local function count_pending_lost(groups, first_before)
  local first = first_id('-')
  for _, group in ipairs(groups) do
    local from, to = first_before, group.after
    if first and id_less(first, to) then
      to = first
    end
    local pages = group.oldest_pending and math.ceil(trimmed / PENDING_PAGE) or 0
    for _ = 1, pages do
      local lost = redis.call('XPENDING', stream, group.name, from, '(' .. to, PENDING_PAGE)
      count_lost(group, #lost)
      if #lost < PENDING_PAGE then
        break
      end
      from = '(' .. lost[#lost][1]
    end
  end
end

-- Also below the bound: a sink that has paused continues only when a sixteenth is free again.
local function is_nearly_full(len, bytes)
  return (entries_max > 0 and len > entries_max - math.floor(entries_max / 16))
    or (bytes_max > 0 and bytes > bytes_max - math.floor(bytes_max / 16))
end

-- To the oldest id that some group has not both been delivered and acknowledged. In a nearly full
-- stream to exactly that, else in whole nodes. Returns the group that holds it.
local function trim_consumed(groups, full)
  local slowest = groups[1]
  for _, group in ipairs(groups) do
    if id_less(group.floor, slowest.floor) then
      slowest = group
    end
  end
  if not slowest then
    return ''
  end
  cut(groups, 0, 'MINID', '~', slowest.floor, 'LIMIT', limit)
  if full and trimmed < limit / 2 then
    cut(groups, 0, 'MINID', '=', slowest.floor)
  end
  return slowest.name
end

-- Memory of the entries alone: trimming frees no pending id. MEMORY USAGE counts varying amounts
-- for pending ids, so the median of the oldest entries is used, within these limits.
local function stream_bytes(len, pending)
  local usage = redis.call('MEMORY', 'USAGE', stream, 'SAMPLES', NODES_SAMPLED) or 0
  local entries = pending > 0 and redis.call('XRANGE', stream, '-', '+', 'COUNT', ENTRIES_SAMPLED) or {}
  if #entries == 0 then
    return len > 0 and usage or 0
  end
  local sizes = {}
  for n, entry in ipairs(entries) do
    sizes[n] = ENTRY_BYTES
    for i = 2, #entry[2], 2 do
      sizes[n] = sizes[n] + #entry[2][i]
    end
  end
  table.sort(sizes)
  local estimate = len * sizes[math.ceil(#sizes / 2)]
  return math.max(usage - PENDING_BYTES * pending, math.min(estimate, usage))
end

-- Redis 7 counts the entries a group has read. Its lag is wrong after some of them were trimmed.
local function group_lag(group, first, next_unread, lost, len)
  if not next_unread then
    return 0
  end
  if next_unread == first then
    return len
  end
  local lag = group.lag
  return lag and lost == 0 and math.min(lag, len) or -1
end

local function measure_group(out, group, now_ms, len)
  local lost = tonumber(redis.call('HGET', counters, group.name) or 0)
  local first, next_unread = first_id('-'), first_id(group.after)
  local pending = oldest_pending(group, first)
  local oldest = pending or next_unread
  if pending and next_unread and id_less(next_unread, pending) then
    oldest = next_unread
  end
  local age_ms = -1
  if oldest then
    age_ms = math.max(0, now_ms - tonumber(string.match(oldest, '^%d+')))
  end
  for _, value in ipairs({group.name, group_lag(group, first, next_unread, lost, len),
      group.pending, age_ms, lost}) do
    out[#out + 1] = value
  end
end

local function forget_deleted_groups(groups)
  local known = {}
  for _, group in ipairs(groups) do
    known[group.name] = true
  end
  local names = redis.call('HGETALL', counters)
  for i = 1, #names, 2 do
    if not known[names[i]] then
      redis.call('HDEL', counters, names[i])
    end
  end
end

local function run()
  local len, bytes = redis.call('XLEN', stream), -1
  local bounded = bytes_max > 0 and mode ~= 'maxlen'
  local first_before = len > 0 and first_id('-') or nil
  local behind, groups, total, pending = '', {}, 0, 0
  if measure or bounded or mode == 'consumed' or (entries_max > 0 and len > entries_max) then
    groups, total, pending = read_groups(first_before)
  end
  if (bounded or measure) and len > 0 then
    bytes = stream_bytes(len, pending)
  end
  local target = entries_max > 0 and entries_max or len
  if mode == 'bytes' then
    target = bytes_max > 0 and bytes > bytes_max and math.floor(len * bytes_max / bytes) or len
  end
  local trims = len > 0 and (mode == 'consumed' or len > target)
  if trims and mode == 'consumed' then
    behind = trim_consumed(groups, is_nearly_full(len, bytes))
  elseif trims then
    trim_oldest(groups, target, mode == 'bytes' and 1 or NODE_ENTRIES)
    if trimmed > 0 then
      count_pending_lost(groups, first_before)
    end
  end
  len = redis.call('XLEN', stream)
  if trimmed > 0 and bytes >= 0 then
    bytes = stream_bytes(len, pending)
  end
  local out = {'ok', len, bytes, trimmed, behind, total}
  if measure then
    table.sort(groups, function(a, b) return id_less(a.floor, b.floor) end)
    local time = redis.call('TIME')
    local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
    forget_deleted_groups(groups)
    for i = 1, math.min(#groups, GROUPS_MEASURED) do
      measure_group(out, groups[i], now_ms, len)
    end
  end
  return out
end

local ok, result = pcall(run)
if ok then
  return result
end
local text = type(result) == 'table' and result.err or tostring(result)
if string.find(text, 'READONLY', 1, true) then
  return redis.error_reply(string.match(text, 'READONLY.*'))
end
return {'error', text}
