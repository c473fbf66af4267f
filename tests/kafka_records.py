"""The records of a Kafka, as another service reads them."""

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from purveyor_drill.servers.kafka import PARTITIONS, KafkaServer
from waiting import PATIENCE_S


async def records(server: KafkaServer, kind: str, count: int) -> Sequence[ConsumerRecord[bytes, bytes]]:
    """The first records of a type's topic, at least so many."""
    topic, found = f"purveyor.{kind}", []
    consumer: Any = AIOKafkaConsumer(bootstrap_servers=server.url, auto_offset_reset="earliest", group_id=None)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
        async with asyncio.timeout(PATIENCE_S):
            while len(found) < count:
                batches = await consumer.getmany(timeout_ms=200)
                found += [record for batch in batches.values() for record in batch]
    finally:
        await consumer.stop()
    return found
