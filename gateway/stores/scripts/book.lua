-- What every operation begins with: the keys, the clock, the guard against lost state, buckets and owners. It
-- decides as `quota.book` does. Appended: `bucket.lua` for those that move something, then the operation's own
-- file. Numbers are doubles, exact below 2^53; `tostring` and `..` would round them at 14 digits, so they leave
-- by `text`, cmsgpack or as RESP integers, which do not.

local META, TERMS, BUCKET, OUT, PART, OWNER, REPLY, LEASE, ASKING, NAMES, HAS, HAS_PART, TELL, TICKET, POSTED, CHARGED,
  ENTERED, ROWS, ENTRIES, DAYS, ENDED, RECALLED, ACKED, WET = unpack(KEYS)
local SHARED = 24 -- how many keys all operations have; what follows is the operation's own
local host, epoch_seen, n_seen, head_seen = ARGV[1], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local said = cjson.decode(ARGV[7])

local LEASE_MS, ASKED_MS, WAIT_MS, SLICES = 30000, 2000, 50, 60
local MONEY, ROLLING, RATE, SLOTS = 'money', 'rolling', 'rate', 'slots'

-- Tests move the clock ('+5000') or stop it ('=1700000000000').
local now
do
  local clock, offset = redis.call('TIME'), ARGV[2]
  now = clock[1] * 1000 + math.floor(clock[2] / 1000)
  if string.sub(offset, 1, 1) == '=' then now = tonumber(string.sub(offset, 2)) else now = now + tonumber(offset) end
end

local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min
local pack, unpack_of = cmsgpack.pack, cmsgpack.unpack
local function text(number) return string.format('%.0f', number) end

-- The guard. `n@HOST` counts the writes of one host, `head` those of all: when either is behind what this host
-- was told, the end of what was written is gone (a failover); another epoch: all of it (FLUSHALL).
local epoch, n, head, open_at = unpack(redis.call('HMGET', META, 'epoch', 'n@' .. host, 'head', 'open_at'))
n, head, open_at = tonumber(n or 0), tonumber(head or 0), tonumber(open_at or 0)
local is_lost = epoch_seen ~= '' and (epoch ~= epoch_seen or n < n_seen or head < head_seen)

local function finish(result, wrote)
  if wrote then
    n, head = n + 1, head + 1
    redis.call('HSET', META, 'epoch', epoch, 'n@' .. host, text(n), 'head', text(head))
  end
  return {epoch, n, head, result}
end

local function guard()
  if is_lost then return {'LOST', epoch or ''} end
  if now < open_at then return {'LOST', 'rebuilding'} end
  if not epoch then
    epoch = ARGV[6]
    redis.call('HSET', META, 'epoch', epoch)
  end
end

-- Fields of a bucket; from PARTS on tables: slice → spent less topped up, slice → topped up, owner's key → when
-- it asked, → 1 if its purse is open, → until when it waits for a recall. DRY: until when refusals are remembered.
local KIND, LIMIT, BURST, WINDOW, SHADOW, STAMP, TOTAL, IS_OUT, AT, REST, SPENT, ADJUSTED, HOLD, TOUCHED, HELD,
  TICKETED, DRY, PARTS, TOPPED, ASKED, OPEN, WAITS = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18,
  19, 20, 21, 22
-- Of what one owner (OWNER@EPOCH) has of it: as `quota.bucket.Out`. WRITTEN: slice → amount.
local O_GIVEN, O_USED, O_RETURNED, O_OUT, O_HELD, O_OPEN, O_WRITTEN = 1, 2, 3, 4, 5, 6, 7

local function bucket_of(account) return string.match(account, '^[^#]*') end
local function part_of(account) return string.match(account, '#(.*)$') or '0' end
local function rule_of(name) return string.match(name, '^[^|]*') end
local function owner_of(entity) return string.match(entity, '^(.*)@') end
local function entity_of(owner, epoch_of) return owner .. '@' .. text(epoch_of) end
local function is_money(b) return b[KIND] == MONEY or b[KIND] == ROLLING end
local function most_of(kind, limit, burst) if kind == RATE then return burst else return limit end end

local function many(key, fields)
  local found = {}
  for from = 1, #fields, 500 do
    local some = redis.call('HMGET', key, unpack(fields, from, min(from + 499, #fields)))
    for i = 1, #some do found[from + i - 1] = some[i] end
  end
  return found
end

local function put(key, pairs_)
  for from = 1, #pairs_, 500 do
    redis.call('HSET', key, unpack(pairs_, from, min(from + 499, #pairs_)))
  end
end

-- Terms in force, by rule: {kind, limit, burst, window, shadow, stamp, at}.
local terms_cache = {}
local function terms_of(rule)
  local terms = terms_cache[rule]
  if terms == nil then
    local packed = redis.call('HGET', TERMS, rule)
    terms = packed and unpack_of(packed) or false
    terms_cache[rule] = terms
  end
  return terms
end

local function same_terms(a, b)
  for i = 1, 5 do if a[i] ~= b[i] then return false end end
  return true
end

-- The newest terms of a rule hold. Its buckets take them when they are next looked at, or by `set_terms`, which
-- goes through all of them from where META's 'edit RULE' stands.
local function set_rule(rule, terms)
  local old = terms_of(rule)
  if old and old[6] >= terms[6] then return false end
  local new = {terms[1], terms[2], terms[3], terms[4], terms[5], terms[6], now}
  terms_cache[rule] = new
  redis.call('HSET', TERMS, rule, pack(new))
  if old then redis.call('HSET', META, 'edit ' .. rule, '') end
  return true
end

local function part_at(b, ms) return b[KIND] == ROLLING and floor(ms * SLICES / b[WINDOW]) or 0 end
local function account_of(name, b, part) return b[KIND] == ROLLING and name .. '#' .. part or name end

-- passed · limit / window in whole steps: each product is below window², which is exact up to windows of a day.
local function refill(b, at)
  if at <= b[AT] then
    if b[TOTAL] >= b[BURST] then b[REST] = 0 end
    return
  end
  local passed = at - b[AT]
  b[AT] = at
  if b[TOTAL] < b[BURST] then
    local window = b[WINDOW]
    local whole, rest = floor(passed / window), passed % window
    local per_ms, odd = floor(b[LIMIT] / window), b[LIMIT] % window
    local below = rest * odd + b[REST]
    b[TOTAL] = b[TOTAL] + whole * b[LIMIT] + rest * per_ms + floor(below / window)
    b[REST] = below % window
  end
  if b[TOTAL] >= b[BURST] then b[TOTAL], b[REST] = b[BURST], 0 end
end

-- A slice leaves when all of it is older than the window.
local function leave_window(b, at)
  local first = part_at(b, at) - SLICES
  for part, left in pairs(b[PARTS]) do
    if tonumber(part) < first then
      local topped = b[TOPPED][part] or 0
      b[PARTS][part], b[TOPPED][part] = nil, nil
      b[TOTAL], b[SPENT], b[ADJUSTED] = b[TOTAL] + left, b[SPENT] - left - topped, b[ADJUSTED] - topped
      b.dirty = true
    end
  end
end

local function pass_time(b, at)
  if b[KIND] == RATE then refill(b, at) elseif b[KIND] == ROLLING then leave_window(b, at) end
end

local function edit(b, terms)
  pass_time(b, min(terms[7], now))
  local more = most_of(terms[1], terms[2], terms[3]) - most_of(b[KIND], b[LIMIT], b[BURST])
  -- The difference first: two large limits added would pass 2^53.
  b[TOTAL] = b[TOTAL] + more
  b.dirty, b.edited = true, not same_terms(b, terms)
  b.lowered, b.raised = more < 0, more > 0
  local window = b[WINDOW]
  for i = 1, 6 do b[i] = terms[i] end
  if window ~= b[WINDOW] then
    b[REST] = 0
    for _, field in ipairs({PARTS, TOPPED}) do
      local moved = {}
      for part, amount in pairs(b[field]) do
        part = text(floor(tonumber(part) * window / b[WINDOW]))
        moved[part] = (moved[part] or 0) + amount
      end
      b[field] = moved
    end
  end
end

local buckets, outs = {}, {}
local function out_key(entity, name) return entity .. '\n' .. name end
local function load_outs(entity, names)
  local fields = {}
  for _, name in ipairs(names) do
    local field = out_key(entity, name)
    if not outs[field] then fields[#fields + 1] = field end
  end
  for i, packed in ipairs(many(OUT, fields)) do
    if packed then outs[fields[i]] = unpack_of(packed) end
  end
end

local function out_of(entity, name)
  local field = out_key(entity, name)
  local o = outs[field]
  if not o then
    local packed = redis.call('HGET', OUT, field)
    if packed then
      o = unpack_of(packed)
    else
      o = {0, 0, 0, 0, 0, 0, {}}
      redis.call('ZADD', HAS, 0, field)
    end
    outs[field] = o
  end
  return o
end

-- At most `count` buckets of which an owner ever had something, after a name, up to another.
local function names_of(entity, after, count, upto)
  local from = after == '' and '[' .. entity .. '\n' or '(' .. entity .. '\n' .. after
  local names = redis.call('ZRANGEBYLEX', HAS, from, '[' .. entity .. '\n' .. (upto or '\255'), 'LIMIT', 0, count)
  for i, field in ipairs(names) do names[i] = string.sub(field, #entity + 2) end
  return names
end

-- From now on these owners keep nothing of a bucket; their next replies tell them.
local function shut(name, b, entities)
  for _, entity in ipairs(entities) do
    local o = out_of(entity, name)
    if o[O_OPEN] == 1 then
      o[O_OPEN], o.dirty, b[OPEN][entity], b.dirty = 0, true, nil, true
      redis.call('ZADD', TELL, 0, out_key(entity, name))
    end
  end
end

local function keys_of(map)
  local keys = {}
  for key in pairs(map) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

local is_reading = false -- true: nothing is saved
local function load_buckets(names)
  local rules, unknown, missing = {}, {}, {}
  for _, name in ipairs(names) do
    local rule = rule_of(name)
    if terms_cache[rule] == nil and not unknown[rule] then rules[#rules + 1], unknown[rule] = rule, true end
    if not buckets[name] then missing[#missing + 1] = name end
  end
  for i, packed in ipairs(many(TERMS, rules)) do terms_cache[rules[i]] = packed and unpack_of(packed) end
  for i, packed in ipairs(many(BUCKET, missing)) do
    local name = missing[i]
    if packed and not buckets[name] then
      local b, terms = unpack_of(packed), terms_of(rule_of(name))
      buckets[name] = b
      if terms and terms[6] > b[STAMP] and terms[1] == b[KIND] then edit(b, terms) end
      pass_time(b, now)
      if b.lowered and not is_reading then shut(name, b, keys_of(b[OPEN])) end
    end
  end
end

local function create(name, terms)
  local b = {terms[1], terms[2], terms[3], terms[4], terms[5], terms[6],
    most_of(terms[1], terms[2], terms[3]), 0, now, 0, 0, 0, 0, now, 0, 0, 0, {}, {}, {}, {}, {}}
  b.dirty = true
  buckets[name] = b
  redis.call('ZADD', NAMES, 0, name)
  return b
end

-- A bucket that was loaded, or by its rule's terms a new one; nil: nobody ever told them.
local function bucket(name)
  local terms = terms_of(rule_of(name))
  return buckets[name] or (terms and create(name, terms)) or nil
end

local function save()
  local fields, wet = {}, {}
  for name, b in pairs(buckets) do
    if b.dirty then
      if b.raised or (b.freer and b[DRY] > now) then wet[#wet + 1] = name; b[DRY] = 0 end
      b.dirty, b.freer, b.edited, b.lowered, b.raised = nil, nil, nil, nil, nil
      fields[#fields + 1] = name
      fields[#fields + 1] = pack(b)
    end
  end
  put(BUCKET, fields)
  fields = {}
  for field, o in pairs(outs) do
    if o.dirty then
      o.dirty = nil
      fields[#fields + 1] = field
      fields[#fields + 1] = pack(o)
    end
  end
  put(OUT, fields)
  if #wet > 0 then redis.call('PUBLISH', WET, table.concat(wet, '\n')) end
end

-- One bucket as operators see it.
local function balance(name)
  local b = bucket(name)
  return {name, b[KIND], b[LIMIT], b[BURST], b[WINDOW], b[SHADOW], b[STAMP], is_money(b) and b[SPENT] or 0, b[HELD],
    b[IS_OUT] - b[HELD], b[TOTAL] - b[IS_OUT]}
end
