-- What one host knows of a store that lost its state, wholly or at its end. Everything is taken as the larger
-- of what is here and what is told, so it may be told twice. said: grace_ms, terms [[rule, kind, limit, burst,
-- window, shadow, stamp]], names (all buckets named below), posted [[entity, account, name, sum]],
-- adjusted [[id, bucket, amount]], owners [[owner, epoch, seq, got [[name, n]], used [[account, name, n]],
-- returned [[name, n]], held [[name, n]]]].

-- The first host to notice begins a new epoch, so that all others are told too, and nothing is granted until
-- they had time to say what they hold. An epoch that a new host began on an emptied store is closed as well.
if not epoch or (epoch == epoch_seen and is_lost) then
  epoch = epoch_offered
  open_at = now + said.grace_ms
  redis.call('HSET', META, 'rebuilt', epoch)
elseif epoch ~= epoch_seen and redis.call('HGET', META, 'rebuilt') ~= epoch then
  open_at = now + said.grace_ms
  redis.call('HSET', META, 'rebuilt', epoch)
end
redis.call('HSET', META, 'open_at', text(open_at))
n, head = max(n, n_seen), max(head, epoch == epoch_seen and head_seen or 0)

for _, t in ipairs(said.terms) do set_rule(t[1], {t[2], t[3], t[4], t[5], t[6], t[7]}) end
load_buckets(said.names)

for _, p in ipairs(said.posted) do
  local entity, account, name, sum = p[1], p[2], p[3], p[4]
  load_outs(entity, {name})
  if bucket(name) then
    local amount = book_used(entity, account, name, sum)
    if is_money(buckets[name]) then enter(account, 'correction', amount, entity, 'rebuilt from its host') end
  end
  save()
end
for _, a in ipairs(said.adjusted) do
  local b = bucket(a[2])
  if b and redis.call('HSETNX', REPLY, 'adjust\n' .. a[1], text(a[3])) == 1 then
    b[TOTAL], b[TOPPED], b.dirty = b[TOTAL] + a[3], b[TOPPED] + a[3], true
  end
end
for _, w in ipairs(said.owners) do
  local entity, record = meet(w[1], w[2])
  if record[2] ~= 2 then
    local names = names_of(entity)
    load_buckets(names)
    load_outs(entity, names)
    load_outs(entity, said.names)
    if record[2] == 1 then
      revive(entity, names)
      record[2] = 0
    end
    for _, use in ipairs(w[5]) do
      if bucket(use[2]) then
        local amount = book_used(entity, use[1], use[2], use[3])
        if is_money(buckets[use[2]]) then enter(use[1], 'correction', amount, entity, 'rebuilt from its owner') end
      end
    end
    for _, back in ipairs(w[6]) do book_returned(entity, back[1], back[2]) end
    for _, got in ipairs(w[4]) do
      local b, o = bucket(got[1]), out_of(entity, got[1])
      if b and got[2] > o[O_GIVEN] then change(b, o, O_GIVEN, got[2]) end
    end
    for _, held in ipairs(w[7]) do
      local b = bucket(held[1])
      if b then set_held(out_of(entity, held[1]), held[2]) end
    end
    record[1], record[3] = max(record[1], w[3]), max(record[3], w[3])
    keep(entity, record)
    renew_lease(entity)
  end
end
save()
return finish(max(0, open_at - now), true)
