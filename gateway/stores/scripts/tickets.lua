-- Tickets of rates (`quota.tickets`), appended to bucket.lua. A bucket has {owed, number, {slot, number, need, who,
-- from when it is owed, 1 if it is owed, …} in order of their slots, {who: barred until}, {who: when it last asked}}.
-- Companions are owed from some time on, all others at once (0).
local live_tickets, owed_of, owed_by, available, claim, give, gets_none, next_slot, save_tickets
do -- a script has room for 200 names
local KEPT_MS, BAN_MS, MOST_TICKETS = 1000, 60000, 4096
local T_OWED, T_NUMBER, T_QUEUE, T_BANNED, T_SEEN = 1, 2, 3, 4, 5
local FIELDS, NEED, WHO, FROM, OWED = 6, 2, 3, 4, 5 -- from a ticket's slot on
local tickets = {}

local function drop(t, i)
  local queue, who = t[T_QUEUE], t[T_QUEUE][i + WHO]
  if queue[i + OWED] == 1 then t[T_OWED] = t[T_OWED] - queue[i + NEED] end
  for at = i, #queue do queue[at] = queue[at + FIELDS] end
  t.dirty = true
  for other = 1, #queue, FIELDS do
    if queue[other + WHO] == who then return end
  end
  t[T_SEEN][who] = nil
end

-- Ends those not claimed in time. Who did not ask at all in that second loses the later ones too.
local function lapse(t)
  local queue = t[T_QUEUE]
  for i = 1, #queue, FIELDS do
    if queue[i + OWED] == 0 and queue[i + FROM] <= now then
      queue[i + OWED], t[T_OWED], t.dirty = 1, t[T_OWED] + queue[i + NEED], true
    end
  end
  while queue[1] and queue[1] + KEPT_MS < now do
    local slot, who, is_companion = queue[1], queue[1 + WHO], queue[1 + FROM] > 0
    local is_here = (t[T_SEEN][who] or 0) >= slot
    drop(t, 1)
    if not is_companion then
      t[T_BANNED][who] = slot + KEPT_MS + BAN_MS
      for i = is_here and 0 or #queue - FIELDS + 1, 1, -FIELDS do
        if queue[i + WHO] == who then drop(t, i) end
      end
    end
  end
  for who, till in pairs(t[T_BANNED]) do
    if till <= now then t[T_BANNED][who], t.dirty = nil, true end
  end
end

local function tickets_of(name, b, make)
  local t = tickets[name]
  if t == nil then
    local packed = b[TICKETED] == 1 and redis.call('HGET', TICKET, name)
    t = packed and unpack_of(packed) or false
    tickets[name] = t
  end
  if not t and make then
    t = {0, 0, {}, {}, {}}
    tickets[name] = t
  end
  return t
end

function save_tickets()
  for name, t in pairs(tickets) do
    if t and t.dirty then
      local b, is_empty = buckets[name], #t[T_QUEUE] == 0 and next(t[T_BANNED]) == nil
      b[TICKETED], b.dirty, t.dirty = is_empty and 0 or 1, true, nil
      if is_empty then redis.call('HDEL', TICKET, name) else redis.call('HSET', TICKET, name, pack(t)) end
    end
  end
end

-- Live tickets of a rate, those that lapsed ended; nil: none.
function live_tickets(name, b)
  local t = b[KIND] == RATE and tickets_of(name, b)
  if t then lapse(t) end
  return t and #t[T_QUEUE] > 0 and t or nil
end

function owed_of(name, b)
  local t = b[KIND] == RATE and tickets_of(name, b)
  return t and t[T_OWED] or 0
end

-- What will be owed at a moment, if nothing is claimed until then.
function owed_by(name, b, at)
  local t, owed = tickets_of(name, b), owed_of(name, b)
  for i = 1, t and #t[T_QUEUE] or 0, FIELDS do
    if t[T_QUEUE][i + OWED] == 0 and t[T_QUEUE][i + FROM] <= at then owed = owed + t[T_QUEUE][i + NEED] end
  end
  return owed
end

-- What a request of `who` may take: free, less what others were promised.
function available(name, b, who)
  local free, t = b[TOTAL] - b[IS_OUT], b[KIND] == RATE and tickets_of(name, b)
  if not t or #t[T_QUEUE] == 0 then return free end
  local due, has_any = 0, false
  for i = 1, #t[T_QUEUE], FIELDS do
    if t[T_QUEUE][i + WHO] == who then
      has_any = true
      if t[T_QUEUE][i] > now then break end
      due = due + t[T_QUEUE][i + NEED]
    end
  end
  if has_any and t[T_SEEN][who] ~= now then t[T_SEEN][who], t.dirty = now, true end
  return max(min(due, free), free - t[T_OWED] + due)
end

function claim(name, b, who, need)
  local t, i = b[KIND] == RATE and tickets_of(name, b), 1
  while t and need > 0 and t[T_QUEUE][i] and t[T_QUEUE][i] <= now do
    if t[T_QUEUE][i + WHO] == who then
      need = need - t[T_QUEUE][i + NEED]
      drop(t, i)
    else
      i = i + FIELDS
    end
  end
end

function give(name, b, who, need, slot, from)
  local t = tickets_of(name, b, true)
  local queue, i = t[T_QUEUE], 1
  t[T_NUMBER], t.dirty = t[T_NUMBER] + 1, true
  if from == 0 then t[T_OWED] = t[T_OWED] + need end
  i = #queue + 1
  while i > 1 and queue[i - FIELDS] > slot do i = i - FIELDS end
  for at = #queue, i, -1 do queue[at + FIELDS] = queue[at] end
  for place, value in ipairs({slot, t[T_NUMBER], need, who, from, from == 0 and 1 or 0}) do
    queue[i + place - 1] = value
  end
end

-- Whether `who` gets none: it let one lapse in the last minute, or there are too many to keep.
function gets_none(name, b, who)
  local t = tickets_of(name, b)
  return t and ((t[T_BANNED][who] or 0) > now or #t[T_QUEUE] >= FIELDS * MOST_TICKETS)
end

-- When the first ticket is due, or was; nil: there is none.
function next_slot(name, b)
  local t = tickets_of(name, b)
  return t and t[T_QUEUE][1]
end
end
