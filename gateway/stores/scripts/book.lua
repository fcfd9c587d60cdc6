-- What every operation begins with: the keys, the clock, the guard against lost state, and the moves of one
-- bucket. Appended: the operation's own file. Numbers are doubles, exact below 2^53; `tostring` and `..`
-- would round them at 14 digits, so they leave by `text`, cmsgpack or as RESP integers, which do not.

local META, TERMS, BUCKET, OUT, PART, OWNER, REPLY, LEASE, NAMES, HAS, TICKET, POSTED, CHARGED,
  ENTERED, ROWS, ENTRIES, DAYS, ENDED, RECALLED, ACKED, WET = unpack(KEYS)
local SHARED = 21 -- how many keys all operations have; what follows is the operation's own
local host, offset, epoch_seen, n_seen, head_seen, epoch_offered =
  ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local said = cjson.decode(ARGV[7])

local LEASE_MS, RECENT_MS, WAITED_MS = 30000, 2000, 50
local SLICES, HORIZON_MS, KEPT_MS, MOST_TICKETS = 60, 60000, 1000, 4096
local MONEY, ROLLING, RATE, SLOTS = 'money', 'rolling', 'rate', 'slots'

-- Tests move the clock ('+5000') or stop it ('=1700000000000').
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if string.sub(offset, 1, 1) == '=' then now = tonumber(string.sub(offset, 2)) else now = now + tonumber(offset) end

local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min
local pack, unpack_of = cmsgpack.pack, cmsgpack.unpack
local function text(number) return string.format('%.0f', number) end

-- The guard. `n@HOST` counts the writes of one host, `head` those of all: when either is behind what this host
-- was told, the end of what was written is gone (a failover); another epoch: all of it (FLUSHALL).
local meta = redis.call('HMGET', META, 'epoch', 'n@' .. host, 'head', 'open_at')
local epoch, n, head, open_at = meta[1], tonumber(meta[2] or 0), tonumber(meta[3] or 0), tonumber(meta[4] or 0)
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
    epoch = epoch_offered
    redis.call('HSET', META, 'epoch', epoch)
  end
end

-- Fields of a bucket and of what one owner (OWNER@EPOCH) has of it.
local KIND, LIMIT, BURST, WINDOW, SHADOW, STAMP, TOTAL, GIVEN_OUT, AT, SPENT, TYPICAL, WAITED, DRY, ASKED, PARTS,
  TOPPED, TOUCHED, TICKETED = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18
local O_GIVEN, O_USED, O_RETURNED, O_HELD, O_OPEN, O_LOST, O_PART = 1, 2, 3, 4, 5, 6, 7

local function bucket_of(account) return string.match(account, '^[^#]*') end
local function rule_of(bucket) return string.match(bucket, '^[^|]*') end
local function owner_of(entity) return string.match(entity, '^(.*)@') end
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

-- The newest terms of a rule hold. Whether these are new.
local function set_rule(rule, terms)
  local old = terms_of(rule)
  if old and old[6] >= terms[6] then return false end
  local new = {terms[1], terms[2], terms[3], terms[4], terms[5], terms[6], now}
  terms_cache[rule] = new
  redis.call('HSET', TERMS, rule, pack(new))
  return true
end

-- Whole units only; the moment they were refilled until is rounded up, so never more than the rate.
local function refill(b, at)
  if at <= b[AT] then return end
  local units = b[WINDOW] > 0 and floor((at - b[AT]) * b[LIMIT] / b[WINDOW]) or 0
  if units > 0 then
    b[AT] = b[AT] + ceil(units * b[WINDOW] / b[LIMIT])
    b[TOTAL] = b[TOTAL] + units
  end
  if b[TOTAL] >= b[BURST] then b[TOTAL], b[AT] = b[BURST], at end
end

local function part_at(b, ms) return floor(ms * SLICES / b[WINDOW]) end

local function leave_window(b)
  local oldest = part_at(b, now) - SLICES
  for index, amount in pairs(b[PARTS]) do
    if tonumber(index) < oldest then
      b[TOTAL] = b[TOTAL] + amount
      b[PARTS][index] = nil
      b.dirty = true
    end
  end
end

-- A bucket brought up to now: new terms, refill, parts that left the window.
local function renew(name, b)
  local terms = terms_of(rule_of(name))
  if terms and terms[6] > b[STAMP] and terms[1] == b[KIND] then
    if b[KIND] == RATE then refill(b, min(terms[7], now)) end
    -- The difference first: two large limits added would pass 2^53.
    b[TOTAL] = b[TOTAL] + (most_of(terms[1], terms[2], terms[3]) - most_of(b[KIND], b[LIMIT], b[BURST]))
    for i = 1, 6 do b[i] = terms[i] end
    b.dirty, b.edited = true, true
  end
  if b[KIND] == RATE then refill(b, now) end
  if b[KIND] == ROLLING then leave_window(b) end
  return b
end

local buckets = {}
local function load_buckets(names)
  local rules, unknown = {}, {}
  for _, name in ipairs(names) do
    local rule = rule_of(name)
    if terms_cache[rule] == nil and not unknown[rule] then rules[#rules + 1], unknown[rule] = rule, true end
  end
  for i, packed in ipairs(many(TERMS, rules)) do terms_cache[rules[i]] = packed and unpack_of(packed) end
  local packed = many(BUCKET, names)
  for i, name in ipairs(names) do
    if packed[i] and not buckets[name] then buckets[name] = renew(name, unpack_of(packed[i])) end
  end
end

-- A new bucket is full but for what was posted to it before (a journal read first, a rebuilt store).
local function bucket(name)
  local b = buckets[name]
  if b then return b end
  local terms = terms_of(rule_of(name))
  if not terms then return nil end
  local spent = 0
  if terms[1] == MONEY then spent = tonumber(redis.call('HGET', POSTED, name) or 0) end
  b = {terms[1], terms[2], terms[3], terms[4], terms[5], terms[6],
    most_of(terms[1], terms[2], terms[3]) - spent, 0, now, spent, 0, 0, 0, {}, {}, 0, now, 0}
  b.dirty = true
  buckets[name] = b
  redis.call('ZADD', NAMES, 0, name)
  return b
end

local outs = {}
local function out_key(entity, name) return entity .. '\n' .. name end
local function load_outs(entity, names)
  local fields = {}
  for i, name in ipairs(names) do fields[i] = out_key(entity, name) end
  local packed = many(OUT, fields)
  for i, field in ipairs(fields) do
    if packed[i] and not outs[field] then outs[field] = unpack_of(packed[i]) end
  end
end

local function out_of(entity, name)
  local field = out_key(entity, name)
  local o = outs[field]
  if not o then
    o = {0, 0, 0, 0, 0, 0, 0}
    outs[field] = o
    redis.call('ZADD', HAS, 0, field)
  end
  return o
end

local function names_of(entity)
  local names = redis.call('ZRANGEBYLEX', HAS, '[' .. entity .. '\n', '[' .. entity .. '\n\255')
  for i, field in ipairs(names) do names[i] = string.sub(field, #entity + 2) end
  return names
end

-- What an owner has: given and neither used, returned nor lost. Use above what was given is no debt.
local function has(o) return max(0, o[O_GIVEN] - o[O_USED] - o[O_RETURNED]) - o[O_LOST] end

-- Changes an owner's numbers and keeps the bucket's sum of them.
local function change(b, o, field, value)
  local before = has(o)
  o[field] = value
  o.dirty, b.dirty = true, true
  b[GIVEN_OUT] = b[GIVEN_OUT] + (has(o) - before)
end

local function set_held(o, amount)
  if o[O_HELD] ~= amount then o[O_HELD], o.dirty = amount, true end
end

local function set_open(o, open)
  if o[O_OPEN] ~= open then o[O_OPEN], o.dirty = open, true end
end

local entries = {}
local function enter(account, kind, amount, who, note)
  if amount == 0 then return end
  redis.call('HINCRBY', ENTERED, account, text(amount))
  redis.call('XADD', ENTRIES, 'MAXLEN', '~', 100000, '*', 'time_ms', text(now), 'account', account, 'kind', kind,
    'amount', text(amount), 'who', who, 'note', note or '')
end

-- Takes `amount` from the total for good (negative: gives it back). The owner's own numbers are not touched.
local function post(account, name, b, amount)
  if b[KIND] == SLOTS or amount == 0 then return end
  b.dirty = true
  if is_money(b) then redis.call('HINCRBY', POSTED, account, text(amount)) end
  if b[KIND] == ROLLING then
    local index = string.match(account, '#(.*)$') or text(part_at(b, now))
    if tonumber(index) >= part_at(b, now) - SLICES then
      local part = (b[PARTS][index] or 0) + amount
      if part == 0 then part = nil end
      b[PARTS][index] = part
      b[TOTAL] = b[TOTAL] - amount
    end
  else
    b[TOTAL] = b[TOTAL] - amount
    if b[KIND] == MONEY then b[SPENT] = b[SPENT] + amount end
  end
end

local function used_of(entity, account, name)
  if account == name then return out_of(entity, name)[O_USED] end
  return tonumber(redis.call('HGET', PART, entity .. '\n' .. account) or 0)
end

-- Books use that an owner reports as a sum over its epoch; what is new of it.
local function book_used(entity, account, name, sum)
  local b = bucket(name)
  if not b or b[KIND] == SLOTS then return 0 end
  local o = out_of(entity, name)
  local delta = sum - used_of(entity, account, name)
  if delta <= 0 then return 0 end
  if account ~= name then redis.call('HSET', PART, entity .. '\n' .. account, text(sum)) end
  local dropped = b[KIND] == RATE and min(delta, o[O_LOST]) or 0
  local before = has(o)
  o[O_LOST] = o[O_LOST] - dropped
  o[O_USED] = o[O_USED] + delta
  b[GIVEN_OUT] = b[GIVEN_OUT] + (has(o) - before)
  o.dirty = true
  post(account, name, b, delta - dropped)
  return delta
end

local function book_returned(entity, name, sum)
  local b = bucket(name)
  if not b then return end
  local o = out_of(entity, name)
  local delta = sum - o[O_RETURNED]
  if delta <= 0 then return end
  local dropped = b[KIND] == RATE and min(delta, o[O_LOST]) or 0
  local before = has(o)
  o[O_LOST] = o[O_LOST] - dropped
  o[O_RETURNED] = sum
  b[GIVEN_OUT] = b[GIVEN_OUT] + (has(o) - before)
  o.dirty, b.dirty, b.freer = true, true, true
end

-- Owners. OWNER's hash: OWNER → its newest epoch, OWNER@EPOCH → {seq, dead: 0 no, 1 expired, 2 buried,
-- seq of the newest rows}, OWNER@EPOCH\ntell → buckets that were recalled and it was not told yet.
local function entity_of(owner, epoch_of) return owner .. '@' .. text(epoch_of) end

local function meet(owner, epoch_of)
  local entity = entity_of(owner, epoch_of)
  local found = redis.call('HMGET', OWNER, owner, entity, entity .. '\ntell')
  local current = tonumber(found[1] or 0)
  local record = found[2] and unpack_of(found[2]) or {0, 0, 0}
  if epoch_of > current then redis.call('HSET', OWNER, owner, text(epoch_of)) end
  return entity, record, epoch_of >= current, found[3]
end

local function keep(entity, record) redis.call('HSET', OWNER, entity, pack({record[1], record[2], record[3]})) end

local function renew_lease(entity) redis.call('ZADD', LEASE, text(now + LEASE_MS), entity) end

-- Replies to what is taken back must not be given again: asked again, it is decided anew.
local function forget_replies(entity)
  local finals = redis.call('HGET', REPLY, entity .. '\nfinal')
  redis.call('HDEL', REPLY, entity, entity .. '\nfinal', unpack(finals and unpack_of(finals) or {}))
end

-- Takes what an owner has off the total until it is heard of. In a rolling window it leaves with its part.
local function write_off(b, o, amount)
  if b[KIND] ~= SLOTS then b[TOTAL] = b[TOTAL] - amount end
  if b[KIND] == ROLLING then
    if amount > 0 then o[O_PART] = part_at(b, now) end
    local index = text(o[O_PART])
    if o[O_PART] < part_at(b, now) - SLICES then
      b[TOTAL] = b[TOTAL] + amount -- It came back with its part.
    else
      local part = (b[PARTS][index] or 0) + amount
      if part == 0 then part = nil end
      b[PARTS][index] = part
    end
  end
  change(b, o, O_LOST, o[O_LOST] + amount)
end

-- An owner whose lease ran out is back: its money and slots are its own again. Rates stay dropped: they were
-- refilled since, and the bound of the window is kept only if they are not given twice.
local function revive(entity, names)
  for _, name in ipairs(names) do
    local b, o = bucket(name), out_of(entity, name)
    if b and o[O_LOST] > 0 and b[KIND] ~= RATE then
      write_off(b, o, -o[O_LOST])
    end
  end
end

local function add_rows(rows, charges_of)
  for _, row in ipairs(rows) do
    redis.call('XADD', ROWS, 'MAXLEN', '~', 100000, '*', 'row', row[1])
    local day, prefix = KEYS[SHARED + row[2]], row[3]
    redis.call('ZADD', DAYS, row[6], text(row[6]))
    for column, amount in pairs(row[4]) do
      redis.call('HINCRBY', day, prefix .. column, text(amount))
    end
    for account, amount in pairs(row[5]) do
      redis.call('HINCRBY', CHARGED, account, text(amount))
      if charges_of then charges_of[account] = (charges_of[account] or 0) + amount end
    end
  end
end

local function save()
  local fields, wet = {}, {}
  for name, b in pairs(buckets) do
    if b.dirty then
      if b.freer and b[DRY] > now then wet[#wet + 1] = name; b[DRY] = 0 end
      if b.edited and b[TICKETED] == 1 then
        redis.call('HDEL', TICKET, name)
        b[TICKETED] = 0
      end
      b.dirty, b.freer, b.edited, b[TOUCHED] = nil, nil, nil, now
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
  local b, spent, held, fields = bucket(name), 0, 0, {}
  for i, entity in ipairs(redis.call('ZRANGE', LEASE, 0, -1)) do fields[i] = out_key(entity, name) end
  for _, packed in ipairs(many(OUT, fields)) do
    local o = packed and unpack_of(packed)
    if o then held = held + min(o[O_HELD], has(o)) end
  end
  for _, amount in pairs(b[PARTS]) do spent = spent + amount end
  return {name, b[KIND], b[LIMIT], b[BURST], b[WINDOW], b[SHADOW], b[STAMP], b[SPENT] + spent, held,
    b[GIVEN_OUT] - held, b[TOTAL] - b[GIVEN_OUT]}
end
