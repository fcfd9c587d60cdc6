-- said: owner, epoch, seq, final (false, or the id of this decision), names (all buckets named below),
-- terms [[name, kind, limit, burst, window, shadow, stamp]], used [[account, name, sum]],
-- returned [[name, sum]], held [[name, amount]], rows, wants [[id, who, [[name, need]], {name: deposit}]],
-- wishes [[name, amount]], dry_ms (how long a refusal of money may be remembered).

local tickets = {}

-- Tickets of one caller for one bucket: {barred until, slot, need, slot, need, …}, soonest first.
local function tickets_of(name, who)
  local field = name .. '\n' .. who
  local t = tickets[field]
  if not t then
    local packed = redis.call('HGET', TICKET, field)
    t = packed and unpack_of(packed) or {0}
    tickets[field] = t
  end
  return t
end

local function keep_tickets(name, who, t)
  if #t == 1 and t[1] <= now then
    redis.call('HDEL', TICKET, name .. '\n' .. who)
  else
    redis.call('HSET', TICKET, name .. '\n' .. who, pack(t))
  end
end

local function drop_ticket(name, b, who, t)
  b[PROMISED] = max(0, b[PROMISED] - t[3])
  b.dirty = true
  redis.call('ZREM', DUE, name .. '\n' .. who .. '\n' .. text(t[2]))
  table.remove(t, 2)
  table.remove(t, 2)
end

-- Due tickets that nobody came for: free for all again, and their caller gets none for a minute.
local function lapse()
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', text(now), 'LIMIT', 0, 100)) do
    local name, who, slot = string.match(member, '^([^\n]*)\n(.*)\n(%d+)$')
    if not buckets[name] then load_buckets({name}) end
    local t, b = tickets_of(name, who), buckets[name]
    if b and t[2] == tonumber(slot) then
      drop_ticket(name, b, who, t)
      t[1] = tonumber(slot) + KEPT_MS + BARRED_MS
      keep_tickets(name, who, t)
    else
      redis.call('ZREM', DUE, member)
    end
  end
end

-- What of a rate's free amount is spoken for: all that tickets wait for, less what refills until the last.
local function promised(b)
  if b[PROMISED] <= 0 then return 0 end
  return max(0, b[PROMISED] - max(0, b[TAIL] - now) * b[LIMIT] / b[WINDOW])
end

local function free_of(b)
  if b[KIND] == RATE then return floor(b[TOTAL] - b[GIVEN_OUT] - promised(b)) end
  return b[TOTAL] - b[GIVEN_OUT]
end

local function free_for(name, b, who)
  local free = free_of(b)
  if b[KIND] == RATE and b[PROMISED] > 0 then
    local t = tickets_of(name, who)
    if t[2] and t[2] <= now then return free + t[3], t end
  end
  return free, nil
end

local function ask(b)
  b[ASKED][said.owner] = now
  b.dirty = true
end

local function askers(b)
  local count = 0
  for owner, at in pairs(b[ASKED]) do
    if at <= now - RECENT_MS then b[ASKED][owner] = nil else count = count + 1 end
  end
  return max(1, count)
end

local entity, record, is_current = meet(said.owner, said.epoch)

local function others_with_idle(name, b)
  local entities, fields, found = redis.call('ZRANGEBYSCORE', LEASE, text(now), '+inf'), {}, {}
  for i, other in ipairs(entities) do fields[i] = out_key(other, name) end
  local packed = many(OUT, fields)
  for i, other in ipairs(entities) do
    if other ~= entity and packed[i] then
      local o = outs[fields[i]] or unpack_of(packed[i])
      if has(o) - o[O_HELD] > 0 and (o[O_OPEN] == 1 or b[WAITED] > now) then
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

local function recall(name, b, others)
  local owners, told = {}, redis.call('HMGET', TELL, unpack(others))
  for i, other in ipairs(others) do
    local o = outs[out_key(other, name)]
    if o[O_OPEN] == 1 then
      set_open(o, 0)
      redis.call('HSET', TELL, other, told[i] and told[i] .. '\n' .. name or name)
    end
    owners[i] = owner_of(other)
  end
  b[WAITED], b.dirty = now + RECALL_MS, true
  reply.recalls[name] = owners
  redis.call('PUBLISH', RECALL, name .. '\n' .. table.concat(owners, '\n'))
end

-- When there may be enough: milliseconds, or -1 where nobody can say. For a rate also the ticket's time.
local function wait_for(b, need, free)
  if b[KIND] ~= RATE then return -1 end
  if b[LIMIT] <= 0 or need > b[BURST] then return HORIZON_MS + 1 end
  return max(1, ceil(max(b[TAIL], now) + (need - free) * b[WINDOW] / b[LIMIT] - now))
end

local RANK = {[MONEY] = 2, [ROLLING] = 2, [RATE] = 1, [SLOTS] = 0}

local function refuse(want, short)
  local worst, rank, wait
  for _, s in ipairs(short) do
    local r, w = RANK[s.b[KIND]], wait_for(s.b, s.need, s.free)
    if not worst or r > rank or (r == rank and w > wait) then worst, rank, wait = s, r, w end
  end
  local b, dry = worst.b, 2
  if b[KIND] == RATE then
    dry = 0
    local t = tickets_of(worst.name, want[2])
    if wait > HORIZON_MS then
      wait, dry = HORIZON_MS, 250
    elseif t[1] > now or #t >= 2 * TICKETS_PER_WHO then
      wait = min(HORIZON_MS, max(1, ceil((worst.need - (b[TOTAL] - b[GIVEN_OUT])) * b[WINDOW] / b[LIMIT])))
    else
      t[#t + 1], t[#t + 2] = now + wait, worst.need
      keep_tickets(worst.name, want[2], t)
      b[TAIL], b[PROMISED], b.dirty = now + wait, b[PROMISED] + worst.need, true
      redis.call('ZADD', DUE, text(now + wait + KEPT_MS), worst.name .. '\n' .. want[2] .. '\n' .. text(now + wait))
    end
  elseif is_money(b) then
    dry = said.dry_ms
  end
  if dry >= 50 then b[DRY], b.dirty = now + dry, true end
  local held = is_money(b) and b[HELD] > 0 and b[TOTAL] >= worst.need
  reply.refused[#reply.refused + 1] = {want[1], worst.name, wait, dry, held and 1 or 0}
  local is_short = {}
  for _, s in ipairs(short) do is_short[s.name] = true end
  for name, deposit in pairs(want[4]) do
    local mine = bucket(name)
    local o = mine and out_of(entity, name)
    if o and not is_short[name] and o[O_OPEN] == 1 and mine[WAITED] <= now then
      local kept = min(deposit, free_of(mine))
      if kept > 0 then
        change(mine, o, O_GIVEN, o[O_GIVEN] + kept)
        reply.back[name] = (reply.back[name] or 0) + kept
      end
    end
  end
end

local function grant(want, claims)
  for _, need in ipairs(want[3]) do
    local b, o = bucket(need[1]), out_of(entity, need[1])
    change(b, o, O_GIVEN, o[O_GIVEN] + need[2])
  end
  for name, t in pairs(claims) do
    drop_ticket(name, buckets[name], want[2], t)
    keep_tickets(name, want[2], t)
  end
  reply.granted[#reply.granted + 1] = want[1]
end

local function decide(want)
  local short, claims = {}, {}
  for _, need in ipairs(want[3]) do
    local name, amount = need[1], need[2]
    local b = bucket(name)
    ask(b)
    if amount > 0 then
      b[TYPICAL] = b[TYPICAL] == 0 and amount or b[TYPICAL] + (amount - b[TYPICAL]) / 16
    end
    local free, ticket = free_for(name, b, want[2])
    if b[SHADOW] == 0 and free < amount then
      short[#short + 1] = {name = name, b = b, need = amount, free = free}
    elseif ticket then
      claims[name] = ticket
    end
  end
  if #short == 0 then return grant(want, claims) end
  local waits_for = {}
  if not said.final then
    for _, s in ipairs(short) do
      local others = others_with_idle(s.name, s.b)
      if #others > 0 then
        recall(s.name, s.b, others)
        waits_for[#waits_for + 1] = s.name
      end
    end
  end
  if #waits_for > 0 then
    reply.parked[#reply.parked + 1] = {want[1], waits_for}
  else
    refuse(want, short)
  end
end

local function slice(name, wish)
  local b = bucket(name)
  local o = out_of(entity, name)
  ask(b)
  local typical, free = max(1, b[TYPICAL]), max(0, free_of(b))
  local lim = floor(free / (2 * askers(b)))
  local waited = b[WAITED] > now
  if o[O_OPEN] == 0 then
    if waited or lim < 4 * typical then
      reply.shut[#reply.shut + 1] = name
      return
    end
    set_open(o, 1)
  end
  local given = min(wish, free, lim)
  if waited or given < typical then given = 0 end
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

local edited_rules = {}
for _, t in ipairs(said.terms) do
  local rule, new = rule_of(t[1]), {t[2], t[3], t[4], t[5], t[6], t[7]}
  local known = terms_of(rule)
  if set_rule(rule, new) and known then edited_rules[rule] = true end
  local force = terms_of(rule)
  if force[6] > t[7] and not same_terms(force, new) then
    reply.edited[#reply.edited + 1] = {t[1], force[1], force[2], force[3], force[4], force[5], force[6]}
  end
end
lapse()
load_buckets(said.names)
load_outs(entity, said.names)
for _, name in ipairs(said.names) do
  if not bucket(name) then return {'TERMS', name} end
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
  posted[use[1]] = book_used(entity, use[1], use[2], use[3])
end
for _, back in ipairs(said.returned) do book_returned(entity, back[1], back[2]) end
if said.seq > record[3] then
  add_rows(said.rows, charges)
  record[3] = said.seq
end
if is_buried then
  -- Its holds were posted in full: what it tells now is what was more than that. Rows cannot be matched.
  for account, amount in pairs(posted) do
    if is_money(buckets[bucket_of(account)]) then charges[account] = (charges[account] or 0) - amount end
  end
  for account, amount in pairs(charges) do enter(account, 'correction', -amount, entity, 'told after its end') end
  for _, want in ipairs(said.wants) do
    reply.refused[#reply.refused + 1] = {want[1], want[3][1] and want[3][1][1] or '', -1, 0, 0}
  end
else
  for _, held in ipairs(said.held) do set_held(bucket(held[1]), out_of(entity, held[1]), held[2]) end
  if is_current then
    for _, want in ipairs(said.wants) do decide(want) end
    for _, wish in ipairs(said.wishes) do slice(wish[1], wish[2]) end
  end
  renew_lease(entity)
end

local told = redis.call('HGET', TELL, entity)
if told then
  redis.call('HDEL', TELL, entity)
  local names = {}
  for name in string.gmatch(told, '[^\n]+') do names[#names + 1] = name end
  load_outs(entity, names)
  for _, name in ipairs(names) do
    if out_of(entity, name)[O_OPEN] == 0 then reply.shut[#reply.shut + 1] = name end
  end
end
for _, want in ipairs(said.wants) do
  for _, need in ipairs(want[3]) do
    local b = buckets[need[1]]
    if b[SHADOW] == 1 and b[TOTAL] - b[GIVEN_OUT] < 0 and not reply.over[need[1]] then
      reply.over[need[1]] = true
      reply.over[#reply.over + 1] = need[1]
    end
  end
end

local result = {
  said.seq, reply.granted, reply.refused, reply.parked, flat(reply.recalls), flat(reply.back), flat(reply.slices),
  reply.shut, {unpack(reply.over)}, reply.edited,
  max(1, redis.call('ZCOUNT', LEASE, text(now + LEASE_MS - RECENT_MS), '+inf')),
}
save()
for rule in pairs(edited_rules) do redis.call('PUBLISH', EDITED, rule) end
if said.final then
  -- The last decisions of the last two seconds are kept, at most 32: the client asks again within its deadline.
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
