-- The moves of a bucket (`quota.bucket`), the ledger, and owners (`quota.owners`). Appended to book.lua.

local function set_held(b, o, amount)
  if o[O_HELD] == amount then return end
  b[HELD] = b[HELD] + amount - o[O_HELD]
  o[O_HELD], o.dirty, b.dirty = amount, true, true
end

local function let_go(b, o, amount)
  o[O_OUT], b[IS_OUT] = o[O_OUT] - amount, b[IS_OUT] - amount
  o.dirty, b.dirty = true, true
  if amount > 0 then b.freer = true end
  if o[O_HELD] > o[O_OUT] then set_held(b, o, o[O_OUT]) end
end

local function take(b, o, amount)
  o[O_GIVEN], o[O_OUT], b[IS_OUT] = o[O_GIVEN] + amount, o[O_OUT] + amount, b[IS_OUT] + amount
  o.dirty, b.dirty = true, true
end

local function set_open(name, b, entity, o, is_open)
  local open = is_open and 1 or 0
  if o[O_OPEN] ~= open then
    o[O_OPEN], o.dirty, b[OPEN][entity], b.dirty = open, true, is_open and 1 or nil, true
  end
end

-- Money that was moved, by account: `posted` in all, and what of it no row explains (`entered`).
local moved = {}
local function move(name, b, part, amount)
  local account = account_of(name, b, part)
  moved[account] = (moved[account] or 0) + amount
  b.dirty = true
  if b[KIND] == ROLLING then
    if tonumber(part) < part_at(b, now) - SLICES then return end
    b[PARTS][part] = (b[PARTS][part] or 0) + amount
  end
  b[TOTAL], b[SPENT] = b[TOTAL] - amount, b[SPENT] + amount
end

local function enter(account, kind, amount, who, note)
  if amount == 0 then return end
  redis.call('HINCRBY', ENTERED, account, text(amount))
  redis.call('XADD', ENTRIES, 'MAXLEN', '~', 100000, '*', 'time_ms', text(now), 'account', account, 'kind', kind,
    'amount', text(amount), 'who', who, 'note', note or '')
end

-- Books what was moved; all of it that `explained` does not cover gets an entry.
local function book_moves(kind, who, explained)
  for account, amount in pairs(explained) do moved[account] = moved[account] or 0 end
  for account, amount in pairs(moved) do
    if amount ~= 0 then redis.call('HINCRBY', POSTED, account, text(amount)) end
    enter(account, kind, amount - (explained[account] or 0), who)
  end
  moved = {}
end

-- Takes up to `amount` from what was written off, from `part` first; how much.
local function take_written(name, b, o, amount, part)
  local left = amount
  if next(o[O_WRITTEN]) == nil then return 0 end
  local order = keys_of(o[O_WRITTEN])
  table.sort(order, function(x, y) return tonumber(x) < tonumber(y) end)
  table.insert(order, 1, part)
  for _, each in ipairs(order) do
    local there = min(left, o[O_WRITTEN][each] or 0)
    if there > 0 then
      local rest = o[O_WRITTEN][each] - there
      o[O_WRITTEN][each] = rest > 0 and rest or nil
      o.dirty, left = true, left - there
      if is_money(b) then move(name, b, each, -there) end
    end
  end
  return amount - left
end

local function use(name, b, o, amount, part)
  o[O_USED], o.dirty, b.dirty = o[O_USED] + amount, true, true
  local fresh = amount - take_written(name, b, o, amount, part)
  let_go(b, o, min(fresh, o[O_OUT]))
  if is_money(b) then move(name, b, part, amount) elseif b[KIND] == RATE then b[TOTAL] = b[TOTAL] - fresh end
end

local function give_back(name, b, o, amount)
  o[O_RETURNED], o.dirty = o[O_RETURNED] + amount, true
  let_go(b, o, min(amount - take_written(name, b, o, amount, '0'), o[O_OUT]))
  b.freer = true
end

local function write_off(name, b, o)
  local amount, part = o[O_OUT], text(part_at(b, now))
  if amount == 0 then return end
  let_go(b, o, amount)
  o[O_WRITTEN][part] = (o[O_WRITTEN][part] or 0) + amount
  if b[KIND] == RATE then b[TOTAL] = b[TOTAL] - amount end
  if is_money(b) then move(name, b, part, amount) end
end

-- An owner is dead and held this, {slice: amount}: it counts as used, all else that it had comes back.
local function settle(name, b, entity, o, held)
  if b[KIND] == SLOTS then held = {} end
  local was_out, was_written, total = o[O_OUT], 0, 0
  for _, amount in pairs(o[O_WRITTEN]) do was_written = was_written + amount end
  for _, amount in pairs(held) do total = total + amount end
  o[O_RETURNED] = o[O_RETURNED] + max(0, was_out + was_written - total)
  let_go(b, o, was_out)
  local before = o[O_WRITTEN]
  o[O_WRITTEN] = held
  set_held(b, o, 0)
  set_open(name, b, entity, o, false)
  if b[KIND] == RATE then b[TOTAL] = b[TOTAL] - max(0, total - was_written) end
  if is_money(b) then
    for part, amount in pairs(before) do move(name, b, part, (held[part] or 0) - amount) end
    for part, amount in pairs(held) do
      if not before[part] then move(name, b, part, amount) end
    end
  end
end

-- A rolling window forgets a top-up with its slice, a rate never has more than its burst. The account.
local function adjust(name, b, amount)
  local part = text(part_at(b, now))
  b[TOTAL], b[ADJUSTED], b.dirty = b[TOTAL] + amount, b[ADJUSTED] + amount, true
  if b[KIND] == RATE then b[TOTAL] = min(b[TOTAL], b[BURST]) end
  if b[KIND] == ROLLING then
    b[PARTS][part] = (b[PARTS][part] or 0) - amount
    b[TOPPED][part] = (b[TOPPED][part] or 0) + amount
  end
  return account_of(name, b, part)
end

-- Forgets some of what an owner used in slices that no call can be of any more: nothing is held for over a day.
local function drop_parts(entity, name, b)
  local prefix, first = entity .. '\n' .. name .. '#', part_at(b, now - 86400000) - 2 * SLICES
  for _, field in ipairs(redis.call('ZRANGEBYLEX', HAS_PART, '[' .. prefix, '[' .. prefix .. '\255', 'LIMIT', 0, 4)) do
    if tonumber(part_of(field)) < first then
      redis.call('HDEL', PART, field)
      redis.call('ZREM', HAS_PART, field)
    end
  end
end

-- Books use that an owner reports as a sum over its epoch; what is new of it.
local function book_used(entity, account, name, sum)
  local b = bucket(name)
  if not b then
    -- Nobody told its terms since the store lost it. Money is owed until they come, which are an edit then.
    if string.match(name, '|$') then return 0 end
    local kind = account == name and MONEY or ROLLING
    b = create(name, {kind, 0, 0, kind == ROLLING and 1 or 0, 0, -1})
  end
  local o, field = out_of(entity, name), entity .. '\n' .. account
  local fresh = sum - (b[KIND] == ROLLING and tonumber(redis.call('HGET', PART, field) or 0) or o[O_USED])
  if fresh <= 0 then return 0 end
  b[TOUCHED] = now
  if b[KIND] == ROLLING then
    redis.call('HSET', PART, field, text(sum))
    if redis.call('ZADD', HAS_PART, 0, field) == 1 then drop_parts(entity, name, b) end
  end
  use(name, b, o, fresh, b[KIND] == ROLLING and part_of(account) or '0')
  return fresh
end

-- Usage rows [JSON, index of their day's key, group, sums, charges, day, id]; those named in `known` are there.
local function add_rows(rows, known)
  local charges = {}
  for _, row in ipairs(rows) do
    if not known[row[7]] then
      redis.call('XADD', ROWS, 'MAXLEN', '~', 100000, '*', 'row', row[1])
      local day, prefix = KEYS[SHARED + row[2]], row[3]
      redis.call('ZADD', DAYS, row[6], text(row[6]))
      for column, amount in pairs(row[4]) do redis.call('HINCRBY', day, prefix .. column, text(amount)) end
      redis.call('EXPIRE', day, 400 * 86400)
      for account, amount in pairs(row[5]) do
        redis.call('HINCRBY', CHARGED, account, text(amount))
        charges[account] = (charges[account] or 0) + amount
      end
    end
  end
  return charges
end

-- Owners. OWNER's hash: OWNER → its last epoch that was forgotten, OWNER\nnewest → its latest, OWNER@EPOCH →
-- {seq, state, since when, 1 if its last reply was lost}, OWNER@EPOCH\nsettled → how far a lost one is
-- settled. TELL has OWNER@EPOCH\nBUCKET for each that was shut and it was not told yet.
local SEQ, STATE, SINCE, IS_BACK = 1, 2, 3, 4
local ALIVE, LOST, DEAD = 0, 1, 2

local function untold_of(entity)
  local names = redis.call('ZRANGEBYLEX', TELL, '[' .. entity .. '\n', '[' .. entity .. '\n\255')
  for i, field in ipairs(names) do names[i] = string.sub(field, #entity + 2) end
  return names
end

local function forget_untold(entity)
  redis.call('ZREMRANGEBYLEX', TELL, '[' .. entity .. '\n', '[' .. entity .. '\n\255')
end

local function keep(entity, owner) redis.call('HSET', OWNER, entity, pack(owner)) end

-- Settles some buckets of an owner that is lost; `expire` goes on. Whether that was all.
local function lose(entity, owner, count)
  local names = names_of(entity, redis.call('HGET', OWNER, entity .. '\nsettled') or '', count)
  load_buckets(names)
  load_outs(entity, names)
  for _, name in ipairs(names) do
    local b = buckets[name]
    if b then
      b[WAITS][entity] = nil
      write_off(name, b, out_of(entity, name))
      shut(name, b, {entity})
    end
  end
  book_moves('lost', entity, {})
  save()
  if owner[STATE] == ALIVE then owner[STATE], owner[SINCE] = LOST, now end
  keep(entity, owner)
  if #names == count then
    redis.call('HSET', OWNER, entity .. '\nsettled', names[#names])
    redis.call('ZADD', LEASE, 0, entity)
    return false
  end
  redis.call('ZREM', LEASE, entity)
  redis.call('ZREM', ASKING, entity)
  redis.call('HDEL', OWNER, entity .. '\nsettled')
  redis.call('ZADD', ENDED, text(owner[SINCE] + 30 * 86400000), entity)
  return true
end

-- An epoch, made if it is new: the one before is replaced, for its process is gone. One that is older than the newest
-- is replaced from the start. No owner: it was forgotten.
local function meet(name, epoch_of)
  local entity = entity_of(name, epoch_of)
  local found = redis.call('HMGET', OWNER, entity, name, name .. '\nnewest')
  local newest = tonumber(found[3] or -1)
  if found[1] then return entity, unpack_of(found[1]), epoch_of == newest end
  if found[2] and epoch_of <= tonumber(found[2]) then return entity, nil end
  local owner = {0, ALIVE, 0, 0}
  if epoch_of < newest then
    owner[STATE], owner[SINCE] = LOST, now
    redis.call('ZADD', ENDED, text(now + 30 * 86400000), entity)
  else
    redis.call('HSET', OWNER, name .. '\nnewest', text(epoch_of))
    local before = entity_of(name, newest)
    local packed = newest >= 0 and redis.call('HGET', OWNER, before)
    if packed and unpack_of(packed)[STATE] == ALIVE then lose(before, unpack_of(packed), 50) end
  end
  keep(entity, owner)
  return entity, owner, epoch_of >= newest
end

-- An owner speaks: its lease begins anew. What a lost one had stays written off until it says what became of it;
-- its purses are shut.
local function hear(name, epoch_of)
  local entity, owner, is_newest = meet(name, epoch_of)
  if owner and owner[STATE] == LOST and is_newest then
    owner[STATE] = ALIVE
    redis.call('ZREM', ENDED, entity)
    redis.call('HDEL', OWNER, entity .. '\nsettled')
    keep(entity, owner)
  end
  if owner and owner[STATE] == ALIVE then redis.call('ZADD', LEASE, text(now + LEASE_MS), entity) end
  return entity, owner
end

-- Last decisions on wants that were parked: {id, …}, each in a field of its own.
local function forget_decisions(entity)
  local list = redis.call('HGET', REPLY, entity .. '\nfinal')
  if list then
    for _, id in ipairs(unpack_of(list)) do redis.call('HDEL', REPLY, entity .. '\n' .. text(id)) end
    redis.call('HDEL', REPLY, entity .. '\nfinal')
  end
end
