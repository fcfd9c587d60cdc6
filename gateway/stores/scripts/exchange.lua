-- said: owner, epoch, seq, final (true: parked wants are decided for the last time), names (all buckets named
-- below), terms [[name, kind, limit, burst, window, shadow, stamp]], used [[account, name, sum]],
-- returned [[name, sum]], held [[name, amount]], rows, wants [[id, who, [[name, need]], [[name, deposit]]]],
-- wishes [[name, amount]], acks [name], dry_ms (how long a refusal of money or slots may be remembered).

local HORIZON_MS = 60000
local HOLDS_TO_OPEN, SHARE, FAR_DRY_MS, HELD_MS, DECIDED = 4, 2, 250, 2000, 256
local NEVER = 1e18
local entity, owner
local reply = {
  granted = {}, refused = {}, parked = {}, recalls = {}, back = {}, slices = {}, shut = {}, over = {}, edited = {},
}

local function flat(map)
  local list = {}
  for key, value in pairs(map) do list[#list + 1] = {key, value} end
  return list
end

local function answer()
  local owners = redis.call('ZCOUNT', ASKING, text(now - ASKED_MS), '+inf')
  return {said.seq, reply.granted, reply.refused, reply.parked, flat(reply.recalls), flat(reply.back),
    flat(reply.slices), reply.shut, reply.over, reply.edited, owners}
end

local function asked(b)
  b[ASKED][entity], b[TOUCHED], b.dirty = now, now, true
end

local function askers(b)
  local count = 0
  for other, at in pairs(b[ASKED]) do
    if now - at > ASKED_MS then b[ASKED][other] = nil else count = count + 1 end
  end
  return max(1, count)
end

-- Whether a want of any owner but one waits for a recall of this bucket.
local function is_waited_for(b, but)
  local found = false
  for other, till in pairs(b[WAITS]) do
    if till <= now then b[WAITS][other] = nil elseif other ~= but then found = true end
  end
  return found
end

-- Parking.

-- Owners that have something in open purses. nil: there is nothing to wait for. What was told to be held counts too: a
-- call may have ended since.
local function recall(name, b)
  local holders, others = {}, {}
  for other in pairs(b[OPEN]) do others[#others + 1] = other end
  for _, other in ipairs(others) do
    local o = other ~= entity and out_of(other, name)
    if o and o[O_OUT] > 0 then holders[#holders + 1] = other end
  end
  if #holders == 0 and not is_waited_for(b, '') then return nil end
  return holders
end

-- Who does not hear of a recall is told by its next reply.
local function park(want, short)
  local found, any = {}, false
  for i, name in ipairs(short) do
    found[i] = recall(name, buckets[name]) or false
    any = any or found[i]
  end
  if not any then return false end
  -- What suffices must suffice still when the want is decided: nobody slices it meanwhile.
  for _, need in ipairs(want[3]) do
    buckets[need[1]][WAITS][entity], buckets[need[1]].dirty = now + WAIT_MS, true
  end
  for i, name in ipairs(short) do
    if found[i] and #found[i] > 0 then
      table.sort(found[i])
      reply.recalls[name] = reply.recalls[name] or {}
      local event = name
      for _, holder in ipairs(found[i]) do
        -- What it was given in answers up to this number is meant: the recall may overtake the last of them.
        local seq = unpack_of(redis.call('HGET', OWNER, holder))[SEQ]
        local epoch_of = string.match(holder, '[^@]*$')
        table.insert(reply.recalls[name], {owner_of(holder), tonumber(epoch_of), seq})
        event = event .. '\n' .. owner_of(holder) .. '\n' .. epoch_of .. '\n' .. text(seq)
      end
      shut(name, buckets[name], found[i])
      redis.call('PUBLISH', RECALLED, event)
    end
  end
  for _, need in ipairs(want[3]) do
    -- Also of what suffices now: a slice of that would leave this want short of it in the end.
    local b = buckets[need[1]]
    b[WAITS][entity], b.dirty = now + WAIT_MS, true
  end
  reply.parked[#reply.parked + 1] = {want[1], short}
  return true
end

-- Refusing (`quota.decision`).

local function is_held(b, need) return b[TOTAL] >= need end

local function wait_of(name, b, need)
  if b[KIND] == SLOTS then return 0.5 end -- A call may end at any moment.
  if b[KIND] ~= RATE then return is_held(b, need) and HELD_MS or NEVER end
  if need > b[BURST] or b[LIMIT] <= 0 then return NEVER end
  local wait = 0
  for _ = 1, 2 do -- Once more with the companions that will be owed by then.
    local units = need + owed_by(name, b, now + wait) - (b[TOTAL] - b[IS_OUT])
    wait = max(1, ceil((units * b[WINDOW] - b[REST]) / b[LIMIT]))
  end
  return wait
end

-- Blamed is the bucket with the longest wait. If it is a rate it gives a ticket, and the other rates companions.
local function refuse(want, short, needs, dry_ms)
  local is_short, waits, blamed, longest, is_barred = {}, {}, nil, 0, false
  for _, name in ipairs(short) do
    local b = buckets[name]
    local wait = wait_of(name, b, needs[name])
    is_short[name] = true
    if not blamed or wait > longest then blamed, longest = name, wait end
    if b[KIND] == RATE then
      waits[name] = wait
      is_barred = gets_none(name, b, want[2]) or is_barred
    end
  end
  local b = buckets[blamed]
  local free, wait, dry = max(0, available(blamed, b, want[2])), -1, dry_ms
  if b[KIND] == RATE then
    wait, dry = min(HORIZON_MS, longest), 0
    if longest > HORIZON_MS or is_barred then
      local next_ms = next_slot(blamed, b)
      dry = min(FAR_DRY_MS, wait, next_ms and max(0, next_ms - now) or FAR_DRY_MS)
      if dry >= WAIT_MS then b[DRY], b.dirty = now + dry, true end
    else
      for name, own in pairs(waits) do
        give(name, buckets[name], want[2], needs[name], now + wait, name == blamed and 0 or now + wait - own)
      end
    end
  end
  local held = b[KIND] ~= RATE and is_money(b) and is_held(b, needs[blamed])
  local back = {}
  for _, deposit in ipairs(want[4]) do
    local name, amount = deposit[1], deposit[2]
    local had = buckets[name]
    if had and not is_short[name] and not is_waited_for(had, entity) and amount > 0
      and amount <= had[TOTAL] - had[IS_OUT] - owed_of(name, had) and out_of(entity, name)[O_OPEN] == 1 then
      back[#back + 1] = {name, amount}
    end
  end
  return {want[1], blamed, wait, dry, held and 1 or 0, free}, back
end

local function grant(want)
  for _, need in ipairs(want[3]) do
    local name, amount, b = need[1], need[2], buckets[need[1]]
    local o = out_of(entity, name)
    local is_over = b[SHADOW] == 1 and b[TOTAL] - b[IS_OUT] < amount
    if is_over then reply.over[#reply.over + 1] = name end
    if is_over and not is_money(b) then
      -- As if it were used and forgotten, so that the bucket goes on as one that had refused.
      o[O_GIVEN], o[O_WRITTEN]['0'], o.dirty = o[O_GIVEN] + amount, (o[O_WRITTEN]['0'] or 0) + amount, true
    else
      take(b, o, amount)
      set_held(b, o, o[O_HELD] + amount)
      claim(name, b, want[2], amount)
    end
  end
end

local function shortage(want)
  local short = {}
  for _, need in ipairs(want[3]) do
    local name, amount, b = need[1], need[2], buckets[need[1]]
    -- What it asks for anew while a want waits, waits for the same recall.
    if said.final then b[WAITS][entity] = nil end
    asked(b)
    out_of(entity, name)
    live_tickets(name, b)
    if not said.final then b[HOLD] = b[HOLD] == 0 and amount or b[HOLD] + (amount - b[HOLD]) / 8 end
    if amount > 0 and b[SHADOW] == 0 and available(name, b, want[2]) < amount then short[#short + 1] = name end
  end
  return short
end

local decided = false
local function remember(want, refusal, back)
  decided = decided or unpack_of(redis.call('HGET', REPLY, entity .. '\nfinal') or pack({}))
  decided[#decided + 1] = want
  redis.call('HSET', REPLY, entity .. '\n' .. text(want), pack({refusal or false, back}))
  if #decided > DECIDED then redis.call('HDEL', REPLY, entity .. '\n' .. text(table.remove(decided, 1))) end
end

-- Decides a want, once: who asks finally again is told the same.
local function decide(want)
  local stored = said.final and redis.call('HGET', REPLY, entity .. '\n' .. text(want[1]))
  local refusal, back = false, {}
  if stored then
    refusal, back = unpack(unpack_of(stored))
  else
    local needs = {}
    for _, need in ipairs(want[3]) do needs[need[1]] = need[2] end
    if owner[STATE] ~= ALIVE then
      -- Nobody is there to be told when to come.
      refusal = {want[1], want[3][1] and want[3][1][1] or '', -1, 0, 0, 0}
    else
      local short = shortage(want)
      if #short == 0 then
        grant(want)
      elseif not said.final and park(want, short) then
        return
      else
        refusal, back = refuse(want, short, needs, said.dry_ms)
        for _, each in ipairs(back) do take(buckets[each[1]], out_of(entity, each[1]), each[2]) end
      end
    end
    if said.final then remember(want[1], refusal, back) end
  end
  if refusal then reply.refused[#reply.refused + 1] = refusal else reply.granted[#reply.granted + 1] = want[1] end
  for _, each in ipairs(back) do reply.back[each[1]] = (reply.back[each[1]] or 0) + each[2] end
end

-- A purse is shut until its share is four typical needs; never anything while somebody waits, or of what tickets
-- promise.
local untold = {}
local function slice(name, wish)
  local b = bucket(name)
  local o, given = out_of(entity, name), nil
  asked(b)
  live_tickets(name, b)
  if is_waited_for(b, '') then
    given = o[O_OPEN] == 1 and 0 or nil
  else
    local most = floor(max(0, b[TOTAL] - b[IS_OUT] - owed_of(name, b)) / (SHARE * askers(b)))
    local hold = max(1, b[HOLD])
    if o[O_OPEN] == 1 or most >= HOLDS_TO_OPEN * hold then
      given = min(wish, most)
      if given < hold then given = 0 end
    end
  end
  if given then
    reply.slices[name] = given
    take(b, o, given)
  else
    reply.shut[#reply.shut + 1] = name
  end
  set_open(name, b, entity, o, given ~= nil)
  untold[name] = nil
end

local function all_needs()
  local lists = {}
  for i, want in ipairs(said.wants) do lists[i] = want[3] end
  return lists
end

local lost = guard()
if lost then return lost end
do
  local told = {}
  for _, t in ipairs(said.terms) do told[t[1]] = true end
  for _, list in ipairs({said.wishes, unpack(all_needs())}) do
    for _, named in ipairs(list) do
      if not told[named[1]] and not terms_of(rule_of(named[1])) then return {'KEY', named[1]} end
    end
  end
end

entity, owner = hear(said.owner, said.epoch)
local nothing = {said.seq, {}, {}, {}, {}, {}, {}, {}, {}, {}, 1}
if not owner then return finish(nothing) end
local is_new = said.final or said.seq > owner[SEQ]
if not is_new and not (owner[IS_BACK] == 1 and said.seq == owner[SEQ]) then
  local stored = said.seq == owner[SEQ] and redis.call('HGET', REPLY, entity)
  return finish(stored and unpack_of(stored) or nothing)
end

for _, t in ipairs(said.terms) do
  local told = {t[2], t[3], t[4], t[5], t[6], t[7]}
  set_rule(rule_of(t[1]), told)
  local known = terms_of(rule_of(t[1]))
  if known[6] > t[7] and not same_terms(known, told) then
    reply.edited[#reply.edited + 1] = {t[1], known[1], known[2], known[3], known[4], known[5], known[6]}
  end
end
load_buckets(said.names)
load_outs(entity, said.names)
for _, t in ipairs(said.terms) do
  if not buckets[t[1]] then
    local known = terms_of(rule_of(t[1]))
    create(t[1], known[1] == t[2] and known or {t[2], t[3], t[4], t[5], t[6], t[7]})
  end
end
for _, want in ipairs(said.wants) do
  for _, need in ipairs(want[3]) do bucket(need[1]) end
end

local fresh = {}
for _, told in ipairs(said.used) do
  local more = book_used(entity, told[1], told[2], told[3])
  if more > 0 and is_money(buckets[told[2]]) then fresh[told[1]] = more end
end
for _, back in ipairs(said.returned) do
  local name, b = back[1], buckets[back[1]]
  local more = b and back[2] - out_of(entity, name)[O_RETURNED] or 0
  if more > 0 then give_back(name, b, out_of(entity, name), more) end
end
for _, held in ipairs(said.held) do
  local b = buckets[held[1]]
  if b then
    local o = out_of(entity, held[1])
    set_held(b, o, min(held[2], o[O_OUT]))
  end
end
-- What an owner that acks still has is held, so nobody waits for it again, and it need not be told.
-- A last decision tells it nothing, for it may overtake an answer.
for _, name in ipairs(said.final and {} or untold_of(entity)) do untold[name] = true end
if not is_new then -- The reply that said so was lost.
  local stored = redis.call('HGET', REPLY, entity)
  for _, name in ipairs(stored and unpack_of(stored)[8] or {}) do untold[name] = true end
end
load_buckets(said.acks)
for _, name in ipairs(said.acks) do
  local b = buckets[name]
  if b and redis.call('ZSCORE', HAS, out_key(entity, name)) then
    local o = out_of(entity, name)
    set_open(name, b, entity, o, false)
    set_held(b, o, o[O_OUT])
    untold[name] = nil
  end
end
-- The rows of a dead owner came with its journal; of a living one they are what explains its use.
book_moves('correction', entity, owner[STATE] == ALIVE and fresh or {})
if is_new and owner[STATE] == ALIVE and #said.rows > 0 then
  add_rows(said.rows, {})
  -- Of its last exchange, which may be in its journal as well, not answered.
  local ids = {}
  for i, row in ipairs(said.rows) do ids[i] = row[7] end
  redis.call('HSET', REPLY, entity .. '\nrows', pack(ids))
end

for _, want in ipairs(said.wants) do decide(want) end
if not said.final then forget_untold(entity) end
if owner[STATE] == ALIVE then
  redis.call('ZADD', ASKING, text(now), entity)
  for _, wish in ipairs(said.wishes) do slice(wish[1], wish[2]) end
end
for _, name in ipairs(keys_of(untold)) do reply.shut[#reply.shut + 1] = name end

local result = answer()
save_tickets()
save()
if #said.acks > 0 then
  local event = said.owner .. '\n' .. text(said.epoch) .. '\n' .. text(said.seq)
  redis.call('PUBLISH', ACKED, event .. '\n' .. table.concat(said.acks, '\n'))
end
if decided then redis.call('HSET', REPLY, entity .. '\nfinal', pack(decided)) end
if not said.final then
  owner[SEQ], owner[IS_BACK] = said.seq, 0
  redis.call('HSET', REPLY, entity, pack(result))
end
keep(entity, owner)
return finish(result, true)
