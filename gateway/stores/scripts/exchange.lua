-- said: owner, epoch, seq, final (false, or the id of this decision), names (all buckets named below),
-- terms [[name, kind, limit, burst, window, shadow, stamp]], used [[account, name, sum]],
-- returned [[name, sum]], held [[name, amount]], rows, wants [[id, who, [[name, need]], {name: deposit}]],
-- wishes [[name, amount]], acks [name], dry_ms (how long a refusal of money may be remembered).

-- Tickets of a bucket: {tail, {at, need, who, at, need, who, …}, {who: barred until}}, in order of their times.
local T_TAIL, T_QUEUE, T_LAPSED = 1, 2, 3
local tickets = {}

local function tickets_of(name, b, make)
  local t = tickets[name]
  if t == nil then
    local packed = b[TICKETED] == 1 and not b.edited and redis.call('HGET', TICKET, name)
    t = packed and unpack_of(packed) or false
    if t then
      local queue, gone = t[T_QUEUE], 0
      while queue[gone + 1] and queue[gone + 1] + KEPT_MS < now do
        t[T_LAPSED][queue[gone + 3]] = now + HORIZON_MS
        gone = gone + 3
      end
      if gone > 0 then
        local left = {}
        for i = gone + 1, #queue do left[i - gone] = queue[i] end
        t[T_QUEUE], t.dirty = left, true
      end
      for who, till in pairs(t[T_LAPSED]) do
        if till <= now then t[T_LAPSED][who], t.dirty = nil, true end
      end
    end
    tickets[name] = t
  end
  if not t and make then
    t = {0, {}, {}, dirty = true}
    tickets[name] = t
  end
  return t
end

local function save_tickets()
  for name, t in pairs(tickets) do
    local b = buckets[name]
    if t and t.dirty then
      if #t[T_QUEUE] == 0 and next(t[T_LAPSED]) == nil and t[T_TAIL] <= now then
        redis.call('HDEL', TICKET, name)
        b[TICKETED], b.dirty = 0, true
      else
        redis.call('HSET', TICKET, name, pack({t[T_TAIL], t[T_QUEUE], t[T_LAPSED]}))
      end
    end
  end
end

-- How much of what is free now must be left for others, so that every ticket can be honoured.
local function kept(name, b, who)
  local t = b[KIND] == RATE and tickets_of(name, b)
  if not t then return 0 end
  local queue, most, promised = t[T_QUEUE], 0, 0
  for i = 1, #queue, 3 do
    if queue[i + 2] ~= who then
      promised = promised + queue[i + 1]
      local refilled = floor(max(0, queue[i] - now) * b[LIMIT] / b[WINDOW])
      most = max(most, promised - refilled)
      if queue[i] > now + KEPT_MS and promised < refilled then break end
    end
  end
  return most
end

local function claim(name, b, who)
  local t = b[KIND] == RATE and tickets_of(name, b)
  if not t then return end
  local queue = t[T_QUEUE]
  for i = 1, #queue, 3 do
    if queue[i] > now then return end
    if queue[i + 2] == who then
      for _ = 1, 3 do table.remove(queue, i) end
      t.dirty = true
      return
    end
  end
end

-- Milliseconds until a ticket is due, at least 1; nil: too far off, or its caller let one lapse.
local function issue(name, b, who, need)
  local t = tickets_of(name, b, true)
  if t[T_LAPSED][who] or #t[T_QUEUE] >= 3 * MOST_TICKETS or b[LIMIT] <= 0 then return nil end
  local per_unit = b[WINDOW] / b[LIMIT]
  local at = max(t[T_TAIL], now + (need - (b[TOTAL] - b[GIVEN_OUT])) * per_unit)
  if at - now > HORIZON_MS then return nil end
  t[T_TAIL], t.dirty = at + need * per_unit, true
  b[TICKETED], b.dirty, b.edited = 1, true, nil -- What there was before the edit is written over.
  local due, queue = max(now + 1, ceil(at)), t[T_QUEUE]
  queue[#queue + 1], queue[#queue + 2], queue[#queue + 3] = due, need, who
  return due - now
end

local entity, record, is_current, told = meet(said.owner, said.epoch)

local function ask(b)
  b[ASKED][entity], b.dirty = now, true
end

local function askers(b)
  local count = 0
  for other, at in pairs(b[ASKED]) do
    if now - at > RECENT_MS then b[ASKED][other] = nil else count = count + 1 end
  end
  return max(1, count)
end

-- Other owners that could give something back.
local function holders_of_idle(name)
  local entities, fields, found = redis.call('ZRANGEBYSCORE', LEASE, text(now), '+inf'), {}, {}
  for i, other in ipairs(entities) do fields[i] = out_key(other, name) end
  local packed = many(OUT, fields)
  for i, other in ipairs(entities) do
    if other ~= entity and packed[i] then
      local o = outs[fields[i]] or unpack_of(packed[i])
      if o[O_OPEN] == 1 and has(o) - o[O_HELD] > 0 then
        outs[fields[i]] = o
        found[#found + 1] = other
      end
    end
  end
  return found
end

local reply = {
  granted = {}, refused = {}, parked = {}, recalls = {}, back = {}, slices = {}, shut = {}, over = {}, edited = {},
}

-- Calls back what is idle of a bucket. An owner that does not hear of it is told by its next reply.
local function recall(name, holders)
  if #holders == 0 then return end
  local fields, owners = {}, reply.recalls[name] or {}
  for i, holder in ipairs(holders) do fields[i] = holder .. '\ntell' end
  local untold = redis.call('HMGET', OWNER, unpack(fields))
  for i, holder in ipairs(holders) do
    set_open(outs[out_key(holder, name)], 0)
    redis.call('HSET', OWNER, fields[i], untold[i] and untold[i] .. '\n' .. name or name)
    owners[#owners + 1] = owner_of(holder)
  end
  reply.recalls[name] = owners
  redis.call('PUBLISH', RECALLED, name .. '\n' .. table.concat(owners, '\n'))
end

local function park(want, short)
  local holders, any = {}, false
  for _, s in ipairs(short) do
    holders[s.name] = holders_of_idle(s.name)
    any = any or #holders[s.name] > 0
  end
  if not any then return false end
  local names = {}
  for i, s in ipairs(short) do
    names[i] = s.name
    s.b[WAITED], s.b.dirty = now + WAITED_MS, true
    recall(s.name, holders[s.name])
  end
  reply.parked[#reply.parked + 1] = {want[1], names}
  return true
end

-- Blamed is the bucket with the longest wait; one of which nobody can say when (-1) waits the longest.
local function refuse(want, short)
  local is_short, blamed = {}, nil
  for _, s in ipairs(short) do
    local b, wait, dry = s.b, -1, 2
    is_short[s.name] = true
    if b[KIND] == RATE and s.need <= b[BURST] then
      wait, dry = issue(s.name, b, want[2], s.need), 0
      if not wait then wait, dry = HORIZON_MS, 250 end
    elseif is_money(b) then
      dry = said.dry_ms
    end
    local held = is_money(b) and b[TOTAL] >= s.need
    local this = {want[1], s.name, wait, dry, held and 1 or 0, max(0, s.free)}
    if not blamed or (blamed[3] >= 0 and (wait < 0 or wait > blamed[3])) then blamed = this end
    if dry >= 50 then b[DRY], b.dirty = now + dry, true end
  end
  reply.refused[#reply.refused + 1] = blamed
  for name, deposit in pairs(want[4]) do
    local b = bucket(name)
    local o = b and out_of(entity, name)
    if o and not is_short[name] and o[O_OPEN] == 1 and deposit <= b[TOTAL] - b[GIVEN_OUT] then
      change(b, o, O_GIVEN, o[O_GIVEN] + deposit)
      reply.back[name] = (reply.back[name] or 0) + deposit
    end
  end
end

local function grant(want)
  for _, need in ipairs(want[3]) do
    local name, b = need[1], bucket(need[1])
    local o = out_of(entity, name)
    change(b, o, O_GIVEN, o[O_GIVEN] + need[2])
    claim(name, b, want[2])
    if b[SHADOW] == 1 and b[TOTAL] < b[GIVEN_OUT] then reply.over[#reply.over + 1] = name end
  end
  reply.granted[#reply.granted + 1] = want[1]
end

local function decide(want)
  local short = {}
  for _, need in ipairs(want[3]) do
    local name, amount = need[1], need[2]
    local b = bucket(name)
    ask(b)
    b[TYPICAL] = b[TYPICAL] == 0 and amount or b[TYPICAL] + 0.1 * (amount - b[TYPICAL])
    local free = b[TOTAL] - b[GIVEN_OUT] - kept(name, b, want[2])
    if b[SHADOW] == 0 and free < amount then
      short[#short + 1] = {name = name, b = b, need = amount, free = free}
    end
  end
  if #short == 0 then
    grant(want)
  elseif said.final or not park(want, short) then
    refuse(want, short)
  end
end

-- A purse is shut while somebody waits for the bucket or was promised something of it, and until its share is
-- at least four typical needs.
local function slice(name, wish)
  local b = bucket(name)
  local o, t = out_of(entity, name), b[KIND] == RATE and tickets_of(name, b)
  ask(b)
  local share = floor(max(0, b[TOTAL] - b[GIVEN_OUT]) / (2 * askers(b)))
  if (t and #t[T_QUEUE] > 0) or now < b[WAITED] or (o[O_OPEN] == 0 and share < 4 * b[TYPICAL]) then
    set_open(o, 0)
    reply.shut[#reply.shut + 1] = name
    return
  end
  set_open(o, 1)
  local given = min(wish, share)
  if given < b[TYPICAL] then given = 0 end
  if given > 0 then change(b, o, O_GIVEN, o[O_GIVEN] + given) end
  reply.slices[name] = given
end

local function flat(map)
  local list = {}
  for key, value in pairs(map) do list[#list + 1] = {key, value} end
  return list
end

local lost = guard()
if lost then return lost end

local answered = entity
if said.final then
  answered = entity .. '\n' .. said.final
  local stored = redis.call('HGET', REPLY, answered)
  if stored then return finish(unpack_of(stored)) end
elseif said.seq <= record[1] then
  local stored = said.seq == record[1] and redis.call('HGET', REPLY, answered)
  if stored then return finish(unpack_of(stored)) end
  return finish({said.seq, {}, {}, {}, {}, {}, {}, {}, {}, {}, 1})
end

load_buckets(said.names)
for _, t in ipairs(said.terms) do
  local rule, told = rule_of(t[1]), {t[2], t[3], t[4], t[5], t[6], t[7]}
  if not terms_of(rule) then set_rule(rule, told) end
  local known = terms_of(rule)
  if known[6] > t[7] and not (same_terms(known, told) and known[6] == t[7]) then
    reply.edited[#reply.edited + 1] = {t[1], known[1], known[2], known[3], known[4], known[5], known[6]}
  end
end
load_outs(entity, said.names)
for _, list in ipairs({said.wishes, said.terms}) do
  for _, named in ipairs(list) do
    if not bucket(named[1]) then return {'TERMS', named[1]} end
  end
end
for _, want in ipairs(said.wants) do
  for _, need in ipairs(want[3]) do
    if not bucket(need[1]) then return {'TERMS', need[1]} end
  end
end

local is_buried, posted, charges = record[2] == 2, {}, {}
if record[2] == 1 then
  local names = names_of(entity)
  load_buckets(names)
  load_outs(entity, names)
  revive(entity, names)
  record[2] = 0
end
for _, use in ipairs(said.used) do
  local more = book_used(entity, use[1], use[2], use[3])
  if more > 0 and is_money(buckets[use[2]]) then posted[use[1]] = more end
end
for _, back in ipairs(said.returned) do book_returned(entity, back[1], back[2]) end
if said.seq > record[3] then
  add_rows(said.rows, charges)
  record[3] = said.seq
end
if is_buried then
  -- Its holds were posted in full: what it tells now is what was more than that. Rows cannot be matched.
  for account, amount in pairs(posted) do charges[account] = (charges[account] or 0) - amount end
  for account, amount in pairs(charges) do enter(account, 'correction', -amount, entity, 'told after its end') end
  for _, want in ipairs(said.wants) do
    reply.refused[#reply.refused + 1] = {want[1], want[3][1] and want[3][1][1] or '', -1, 0, 0, 0}
  end
else
  for _, held in ipairs(said.held) do
    if bucket(held[1]) then set_held(out_of(entity, held[1]), held[2]) end
  end
  if is_current then
    for _, want in ipairs(said.wants) do decide(want) end
    for _, wish in ipairs(said.wishes) do slice(wish[1], wish[2]) end
  end
  renew_lease(entity)
end

if told then -- It was recalled meanwhile.
  redis.call('HDEL', OWNER, entity .. '\ntell')
  local names = {}
  for name in string.gmatch(told, '[^\n]+') do names[#names + 1] = name end
  load_outs(entity, names)
  for _, name in ipairs(names) do
    if out_of(entity, name)[O_OPEN] == 0 then reply.shut[#reply.shut + 1] = name end
  end
end
local result = {
  said.seq, reply.granted, reply.refused, reply.parked, flat(reply.recalls), flat(reply.back), flat(reply.slices),
  reply.shut, reply.over, reply.edited,
  max(1, redis.call('ZCOUNT', LEASE, text(now + LEASE_MS - RECENT_MS), '+inf')),
}
save_tickets()
save()
if #said.acks > 0 then redis.call('PUBLISH', ACKED, said.owner .. '\n' .. table.concat(said.acks, '\n')) end
if said.final then
  -- The newest 32 decisions are kept: a client asks again at once or not at all.
  local list = redis.call('HGET', REPLY, entity .. '\nfinal')
  list = list and unpack_of(list) or {}
  list[#list + 1] = answered
  if #list > 32 then redis.call('HDEL', REPLY, table.remove(list, 1)) end
  redis.call('HSET', REPLY, entity .. '\nfinal', pack(list))
else
  record[1] = said.seq
end
keep(entity, record)
redis.call('HSET', REPLY, answered, pack(result))
return finish(result, true)
