-- Tickets of rates (`quota.tickets`), appended to bucket.lua. A bucket has {owed, number, {slot, number, need, who,
-- …} in order of their slots, {who: barred until}, {who: when it last asked}}.
local KEPT_MS, BAN_MS, HORIZON_MS, MOST_TICKETS = 1000, 60000, 60000, 4096
local T_OWED, T_NUMBER, T_QUEUE, T_BANNED, T_SEEN = 1, 2, 3, 4, 5
local tickets = {}

local function drop(t, i)
  t[T_OWED], t.dirty = t[T_OWED] - t[T_QUEUE][i + 2], true
  for _ = 1, 4 do table.remove(t[T_QUEUE], i) end
end

-- Ends those not claimed in time. Who did not ask at all in that second loses the later ones too.
local function lapse(t)
  local queue = t[T_QUEUE]
  while queue[1] and queue[1] + KEPT_MS < now do
    local slot, who = queue[1], queue[4]
    t[T_BANNED][who] = slot + KEPT_MS + BAN_MS
    drop(t, 1)
    if (t[T_SEEN][who] or 0) < slot then
      for i = #queue - 3, 1, -4 do
        if queue[i + 3] == who then drop(t, i) end
      end
    end
  end
  if #queue == 0 and next(t[T_SEEN]) ~= nil then t[T_SEEN], t.dirty = {}, true end
  for who, till in pairs(t[T_BANNED]) do
    if till <= now then t[T_BANNED][who], t.dirty = nil, true end
  end
end

local function tickets_of(name, b, make)
  local t = tickets[name]
  if t == nil then
    local packed = b[TICKETED] == 1 and redis.call('HGET', TICKET, name)
    t = packed and unpack_of(packed) or false
    if t then lapse(t) end
    tickets[name] = t
  end
  if not t and make then
    t = {0, 0, {}, {}, {}}
    tickets[name] = t
  end
  return t
end

local function save_tickets()
  for name, t in pairs(tickets) do
    if t and t.dirty then
      local b, is_empty = buckets[name], #t[T_QUEUE] == 0 and next(t[T_BANNED]) == nil
      b[TICKETED], b.dirty, t.dirty = is_empty and 0 or 1, true, nil
      if is_empty then redis.call('HDEL', TICKET, name) else redis.call('HSET', TICKET, name, pack(t)) end
    end
  end
end

local function owed_of(name, b)
  local t = b[KIND] == RATE and tickets_of(name, b)
  return t and t[T_OWED] or 0
end

-- What a request of `who` may take: free, less what others were promised.
local function available(name, b, who)
  local free, owed = b[TOTAL] - b[IS_OUT], owed_of(name, b)
  if owed == 0 then return free end
  local t, due, has_any = tickets[name], 0, false
  for i = 1, #t[T_QUEUE], 4 do
    if t[T_QUEUE][i + 3] == who then
      has_any = true
      if t[T_QUEUE][i] > now then break end
      due = due + t[T_QUEUE][i + 2]
    end
  end
  if has_any and t[T_SEEN][who] ~= now then t[T_SEEN][who], t.dirty = now, true end
  return max(min(due, free), free - owed + due)
end

local function claim(name, b, who, need)
  if owed_of(name, b) == 0 then return end
  local t, i = tickets[name], 1
  while need > 0 and t[T_QUEUE][i] and t[T_QUEUE][i] <= now do
    if t[T_QUEUE][i + 3] == who then
      need = need - t[T_QUEUE][i + 2]
      drop(t, i)
    else
      i = i + 4
    end
  end
end

local function give(name, b, who, need, slot)
  local t = tickets_of(name, b, true)
  local queue, i = t[T_QUEUE], 1
  t[T_NUMBER], t[T_OWED], t.dirty = t[T_NUMBER] + 1, t[T_OWED] + need, true
  i = #queue + 1
  while i > 1 and queue[i - 4] > slot do i = i - 4 end
  for place, value in ipairs({slot, t[T_NUMBER], need, who}) do table.insert(queue, i + place - 1, value) end
end

-- Whether `who` gets none: it let one lapse in the last minute, or there are too many to keep.
local function gets_none(name, b, who)
  local t = tickets_of(name, b)
  return t and ((t[T_BANNED][who] or 0) > now or #t[T_QUEUE] >= 4 * MOST_TICKETS)
end
