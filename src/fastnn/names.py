"""The public names by module, for what must not import the modules: `fastnn` itself, and hints in errors.

`tests/project/test_names.py` compares them with the modules, and with what `fastnn/__init__.py` says to type checkers.
"""

#: modules that ``from fastnn import *`` imports
MODULES = (
    "activations", "cache", "callbacks", "constraints", "cuda", "data", "datasets", "initializers", "layers",
    "losses", "metrics", "optimizers", "regularizers", "schedules",
)  # fmt: skip

#: packages that import their modules
PACKAGES = (
    "activations", "callbacks", "data", "datasets", "initializers", "layers", "losses", "metrics", "model",
    "optimizers", "schedules",
)  # fmt: skip

#: modules that it leaves out: Numba takes longer to import than fastnn
LATER = ("applications", "inspect", "integrations", "lora", "nopython", "ops", "plot", "testing", "text")

#: rooms that are no attributes of `fastnn` until a statement has imported them
APART = ("demo", "sklearn")


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


#: names that are in a module and in `fastnn`
SHARED = {
    "callbacks": _names("""
        CSVLogger Callback EarlyStopping LambdaCallback LearningRateScheduler ModelCheckpoint ReduceLROnPlateau
        TerminateOnNaN
    """),
    "constraints": _names("MaxNorm"),
    "errors": _names("DeviceError DeviceMemoryError ModelFileError"),
    "layers": _names("""
        Activation Add AveragePooling1D AveragePooling2D AveragePooling3D AvgPool1D AvgPool2D AvgPool3D BatchNorm
        BatchNormalization Bidirectional CategoryEncoding Cell Concatenate Conv1D Conv1DTranspose Conv2D
        Conv2DTranspose Conv3D Conv3DTranspose Cropping1D Cropping2D Cropping3D Dense DepthwiseConv1D DepthwiseConv2D
        Discretization Dot Dropout Embedding Flatten GRU GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
        GlobalAveragePooling3D GlobalAvgPool1D GlobalAvgPool2D GlobalAvgPool3D GlobalMaxPool1D GlobalMaxPool2D
        GlobalMaxPool3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNorm GroupNormalization
        GroupedQueryAttention Input IntegerLookup LSTM LayerNorm LayerNormalization LoRA Masking MatMul MaxPool1D
        MaxPool2D MaxPool3D MaxPooling1D MaxPooling2D MaxPooling3D MultiHeadAttention Multiply Normalization OneHot
        Permute PositionEmbedding RMSNorm RMSNormalization RNN RandomBrightness RandomContrast RandomFlip
        RandomRotation RandomTranslation RandomZoom Rescaling Reshape Resizing RotaryEmbedding SeparableConv1D
        SeparableConv2D SimpleRNN SinePositionEncoding SpatialDropout1D SpatialDropout2D SpatialDropout3D StringLookup
        SwiGLU TiedDense TimeDistributed TransformerDecoder TransformerEncoder UpSampling1D UpSampling2D UpSampling3D
        ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """),
    "linalg": _names("matmul"),
    "losses": _names("""
        BinaryCrossEntropy BinaryCrossentropy CategoricalCrossentropy CrossEntropy Hinge Huber KLDivergence LogCosh
        MeanAbsoluteError MeanSquaredError Perceptron Poisson SparseCategoricalCrossentropy
    """),
    "model": _names("Model Sequential"),
    "model.function": _names("function"),
    "model.loading": _names("load"),
    "model.train_function": _names("train_function"),
    "optimizers": _names("AdaGrad Adadelta Adagrad Adam AdamW Lion Nadam RMSprop SGD"),
    "regularizers": _names("L1 L1L2 L2"),
    "threads": _names("get_num_threads set_num_threads"),
    "training.history": _names("History"),
    "training.range_test": _names("lr_range_test"),
    "training.train_many.api": _names("train_many"),
}

#: names that are in a module alone
OWN = {
    "activations": _names("""
        Activation Custom ELU Exponential GELU HardSigmoid LeakyReLU Linear LogSoftmax Mish ReLU ReLU6 SELU SiLU
        Sigmoid Softmax Softplus Softsign Step Tanh get
    """),
    "applications": _names("BERT GPT LeNet5 MobileNetV1 MobileNetV2 ResNet18 ResNet20 ResNet32 Tabular UNet"),
    "cache": _names("clear entries location size"),
    "callbacks": _names("CallbackList"),
    "constraints": _names("Constraint get"),
    "cuda": _names("DeviceArray DeviceInfo device_count devices empty_pool is_available why_not"),
    "data": _names("Bucket buckets pad_sequences"),
    "datasets": _names("""
        load_digits load_idx make_edges make_moons make_regression make_shapes make_spirals make_xor
    """),
    "initializers": _names("""
        Constant GlorotNormal GlorotUniform HeNormal HeUniform Initializer LecunNormal LecunUniform Ones Orthogonal
        RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros compute_fans get
    """),
    "inspect": _names("""
        activations dead_units feature_maps filters grad_cam maximize plot_feature_maps plot_filters plot_grad_cam
        plot_maximized plot_saliency saliency weight_gradients
    """),
    "integrations": _names("Log MLflow TensorBoard optuna"),
    "integrations.optuna": _names("PruningCallback optimize"),
    "layers": _names("""
        ConstantLayer Custom Function InputLayer Layer Operation ParameterSpec RowFunction Symbol SymbolFunction
    """),
    "lora": _names("add load merge save"),
    "losses": _names("Custom Function Loss get"),
    "metrics": _names("""
        AUC Accuracy BinaryAccuracy ConfusionMatrix F1Score Function MeanAbsoluteError MeanLoss MeanSquaredError
        Metric PearsonCorrelation Perplexity Precision R2Score Recall RootMeanSquaredError TopKAccuracy get
    """),
    "nopython": _names("""
        CFunction FrozenDeviceNetwork FrozenNetwork FrozenNetworks Learner Learners apply_gradients c_function check
        count get_parameters input_gradient jacobian loss_and_gradients member parameter_count parameter_gradient
        predict set_learning_rate set_parameters stack state step train_step workspace workspace_elements
    """),
    "optimizers": _names("Custom Optimizer get"),
    "plot": _names("""
        Calibration activations calibration confusion_matrix decision_boundary gradients network reliability weights
    """),
    "regularizers": _names("Regularizer get"),
    "schedules": _names("""
        ConstantSchedule CosineDecay ExponentialDecay LearningRate OneCycle PiecewiseConstantDecay PolynomialDecay
        Schedule StepDecay UserSchedule WarmUp check_rates get
    """),
    "testing": _names("Derivative check_op"),
    "text": _names("BytePairs Characters Words mask_words pack windows"),
}

#: the names in `fastnn`, with the names of the modules that they come from
HOMES = {
    **{name: f"fastnn.{module}" for module, names in SHARED.items() for name in names},
    **{module: f"fastnn.{module}" for module in (*MODULES, *LATER)},
}
