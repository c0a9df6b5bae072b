import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import net.sf.geographiclib.Geodesic;
import net.sf.geographiclib.GeodesicMask;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/** Kafka Streams: the job with its state store (in memory, with changelog), exactly_once_v2. */
public final class Distance {
  private static final JsonFactory JSON = new JsonFactory();
  private static final String STORE = "at";

  /** One point in, one total out; the state of a car is latitude, longitude and kilometres. */
  private static final class Job implements Processor<byte[], byte[], byte[], byte[]> {
    private final AtomicLong left;
    private final CountDownLatch done;
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<byte[], byte[]> store;

    Job(AtomicLong left, CountDownLatch done) {
      this.left = left;
      this.done = done;
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
      this.context = context;
      this.store = context.getStateStore(STORE);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
      long id = 0;
      long track = 0;
      double lat = 0;
      double lon = 0;
      try (JsonParser in = JSON.createParser(record.value())) {
        in.nextToken();
        while (in.nextToken() == JsonToken.FIELD_NAME) {
          String name = in.currentName();
          in.nextToken();
          switch (name) {
            case "id" -> id = in.getLongValue();
            case "track_id" -> track = in.getLongValue();
            case "latitude" -> lat = in.getDoubleValue();
            case "longitude" -> lon = in.getDoubleValue();
            default -> in.skipChildren();
          }
        }
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
      byte[] before = store.get(record.key());
      double total = 0;
      if (before != null) {
        ByteBuffer at = ByteBuffer.wrap(before);
        double lat0 = at.getDouble();
        double lon0 = at.getDouble();
        total = at.getDouble()
            + Geodesic.WGS84.Inverse(lat0, lon0, lat, lon, GeodesicMask.DISTANCE).s12 / 1000;
      }
      byte[] after = ByteBuffer.allocate(24).putDouble(lat).putDouble(lon).putDouble(total).array();
      store.put(record.key(), after);
      ByteArrayOutputStream value = new ByteArrayOutputStream(80);
      try (JsonGenerator out = JSON.createGenerator(value)) {
        out.writeStartObject();
        out.writeNumberField("id", id);
        out.writeNumberField("track_id", track);
        out.writeNumberField("distance", total);
        out.writeEndObject();
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
      context.forward(record.withValue(value.toByteArray()));
      if (left.decrementAndGet() == 0) {
        done.countDown();
      }
    }
  }

  private Distance() {}

  /** Run until all records were read: BOOTSTRAP SOURCE RECORDS TARGET STATE_DIR. */
  public static void main(String[] args) throws InterruptedException {
    AtomicLong left = new AtomicLong(Long.parseLong(args[2]));
    CountDownLatch done = new CountDownLatch(1);
    StreamsBuilder builder = new StreamsBuilder();
    builder.addStateStore(
        Stores.keyValueStoreBuilder(
                Stores.inMemoryKeyValueStore(STORE), Serdes.ByteArray(), Serdes.ByteArray())
            .withCachingEnabled());
    builder.stream(args[1], Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
        .process(() -> new Job(left, done), STORE)
        .to(args[3], Produced.with(Serdes.ByteArray(), Serdes.ByteArray()));
    Properties settings = new Properties();
    settings.put("bootstrap.servers", args[0]);
    settings.put("application.id", "streams-" + UUID.randomUUID());
    settings.put("processing.guarantee", "exactly_once_v2");
    settings.put("num.stream.threads", 2);
    settings.put("commit.interval.ms", 1000);
    settings.put("statestore.cache.max.bytes", 64_000_000);
    settings.put("state.dir", args[4]);
    settings.put("replication.factor", 1);
    settings.put("consumer.auto.offset.reset", "earliest");
    settings.put("consumer.max.poll.records", 10_000);
    settings.put("consumer.fetch.max.bytes", 52_428_800);
    settings.put("consumer.max.partition.fetch.bytes", 8_388_608);
    settings.put("producer.linger.ms", 20);
    settings.put("producer.batch.size", 524_288);
    settings.put("producer.buffer.memory", 134_217_728);
    KafkaStreams streams = new KafkaStreams(builder.build(), settings);
    streams.start();
    done.await();
    streams.close();
  }
}
